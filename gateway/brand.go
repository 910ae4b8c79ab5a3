package gateway

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// maxLogo keeps a page small: it stands in every one, so that there is no second request.
const maxLogo = 12 << 10

// Brand is how the operator wants to be known to recipients, who never chose this software but may
// know who runs it. The zero Brand is none.
type Brand struct {
	Name    string // shown above the file; empty: the host in the links
	Color   string // of the button, #RRGGBB; empty: blue
	Logo    []byte // PNG, JPEG, WebP or SVG, at most 12 KiB; empty: none
	Contact string // where misuse is reported: an address or an https:// URL; empty: nowhere
}

// look is a Brand as the templates use it.
type look struct {
	Name    string
	Logo    template.URL
	Contact template.URL
	colors  string // CSS that follows the page's own
}

var (
	hexColor = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)
	svgStart = regexp.MustCompile(`^(\s|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>)*<svg[\s>]`)
)

// Check tells what is wrong with a Brand, and what would be right.
func (b Brand) Check() error {
	_, err := b.look()
	return err
}

func (b Brand) look() (look, error) {
	l := look{Name: b.Name}
	var errs []error
	var err error
	if l.colors, err = colors(b.Color); err != nil {
		errs = append(errs, fmt.Errorf("color: %w", err))
	}
	if l.Logo, err = dataURL(b.Logo); err != nil {
		errs = append(errs, fmt.Errorf("logo: %w", err))
	}
	if l.Contact, err = contactURL(b.Contact); err != nil {
		errs = append(errs, fmt.Errorf("contact: %w", err))
	}
	return l, errors.Join(errs...)
}

// dataURL makes the logo part of the page. In an img element an SVG runs no script and loads nothing.
func dataURL(logo []byte) (template.URL, error) {
	if len(logo) == 0 {
		return "", nil
	}
	if len(logo) > maxLogo {
		return "", fmt.Errorf("%d bytes, which every page would carry: make it at most %d", len(logo), maxLogo)
	}
	kind := http.DetectContentType(logo)
	if svgStart.Match(logo) {
		kind = "image/svg+xml"
	}
	switch kind {
	case "image/png", "image/jpeg", "image/webp", "image/svg+xml":
		return template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(logo)), nil
	}
	return "", errors.New("not an image that every browser shows: make it PNG, JPEG, WebP or SVG")
}

func contactURL(contact string) (template.URL, error) {
	if contact == "" {
		return "", nil
	}
	if u, err := url.Parse(contact); err == nil && u.Scheme == "https" && u.Host != "" {
		return template.URL(u.String()), nil
	}
	if a, err := mail.ParseAddress(contact); err == nil && a.Address == contact {
		return template.URL((&url.URL{Scheme: "mailto", Opaque: url.PathEscape(contact)}).String()), nil
	}
	return "", fmt.Errorf("%q is neither a mail address nor an https:// URL", contact)
}

// rgb is a colour of three channels, each from 0 to 1.
type rgb [3]float64

var (
	white    = rgb{1, 1, 1}
	darkCard = rgb{0x1e / 255., 0x22 / 255., 0x26 / 255.} // --card in the dark, in page.css
)

// legible is the contrast that text needs (WCAG 2.2, 1.4.3).
const legible = 4.5

// colors are the brand's on light and on dark ground, each made darker or lighter until it can be read there.
func colors(color string) (string, error) {
	if color == "" {
		return "", nil
	}
	if !hexColor.MatchString(color) {
		return "", fmt.Errorf("%q is not a colour: write it as #1a56c4", color)
	}
	n, err := strconv.ParseUint(color[1:], 16, 32)
	if err != nil {
		return "", err
	}
	c := rgb{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}
	light, dark := c.until(rgb{}, white), c.until(white, darkCard)
	return fmt.Sprintf(":root{--accent:%s;--over:%s}@media(prefers-color-scheme:dark){:root{--accent:%s;--over:%s;--on:#000}}",
		light, light.toward(rgb{}, .2), dark, dark.toward(white, .3)), nil
}

// until moves a colour toward another until it can be read on the ground.
func (c rgb) until(toward, ground rgb) rgb {
	moved := c
	for share := 0.; share < 1 && contrast(moved, ground) < legible; share += .02 {
		moved = c.toward(toward, share)
	}
	return moved
}

func (c rgb) toward(other rgb, share float64) rgb {
	for i := range c {
		c[i] += (other[i] - c[i]) * share
	}
	return c
}

func (c rgb) String() string {
	var b strings.Builder
	b.WriteByte('#')
	for _, v := range c {
		fmt.Fprintf(&b, "%02x", int(math.Round(v*255)))
	}
	return b.String()
}

// contrast is the ratio of two colours' luminances, 1 to 21 (WCAG 2.2, "contrast ratio").
func contrast(a, b rgb) float64 {
	lighter, darker := max(a.luminance(), b.luminance()), min(a.luminance(), b.luminance())
	return (lighter + .05) / (darker + .05)
}

func (c rgb) luminance() float64 {
	linear := func(v float64) float64 {
		if v <= .04045 {
			return v / 12.92
		}
		return math.Pow((v+.055)/1.055, 2.4)
	}
	return .2126*linear(c[0]) + .7152*linear(c[1]) + .0722*linear(c[2])
}
