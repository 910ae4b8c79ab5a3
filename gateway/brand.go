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
)

// maxLogo keeps pages small: the logo is part of each, so that no page needs a second request.
const maxLogo = 12 << 10

// A Brand is how recipients recognize the operator: they never chose this software, but may know
// who runs it. The zero Brand shows the host in the links, and blue.
type Brand struct {
	Name    string // shown above the file; empty: the host in the links
	Color   string // of the button, #RRGGBB; empty: blue
	Logo    []byte // PNG, JPEG, WebP or SVG, at most 12 KiB; empty: none
	Contact string // where recipients report misuse: an address or an https:// URL; empty: nowhere
}

// A look is a Brand as the templates use it.
type look struct {
	Name    string
	Logo    template.URL
	Contact template.URL
	colors  string // CSS rules, to follow the page's own
}

var (
	hexColor = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)
	svgStart = regexp.MustCompile(`^(\s|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>)*<svg[\s>]`)
)

// Check returns an error that names what is wrong with a Brand, and the remedy.
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

// dataURL returns the logo as a URL that contains it. An SVG in an img element runs no script and
// loads nothing.
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

// rgb is a color of three channels, each from 0 to 1.
type rgb [3]float64

var black, white = rgb{}, rgb{1, 1, 1}

// colors returns CSS rules for the brand's color on light and on dark ground. A color that could
// not be read there is made darker or lighter.
func colors(color string) (string, error) {
	if color == "" {
		return "", nil
	}
	if !hexColor.MatchString(color) {
		return "", fmt.Errorf("%q is not a color: write it as #1a56c4", color)
	}
	n, err := strconv.ParseUint(color[1:], 16, 32)
	if err != nil {
		return "", err
	}
	light, dark := rgb{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}.legible()
	return fmt.Sprintf(":root{--accent:%s;--over:%s}@media(prefers-color-scheme:dark){:root{--accent:%s;--over:%s;--on:#000}}",
		light, light.mix(black, .2), dark, dark.mix(white, .3)), nil
}

// legible returns the color for text on a white card and for text on a dark one. The luminance is
// estimated by squares, which are larger than sRGB's own curve, so the first is dark enough. A
// color mixed with more than half white is bright enough for the second. TestBrandIsLegible holds
// both.
func (c rgb) legible() (light, dark rgb) {
	luminance := .2126*c[0]*c[0] + .7152*c[1]*c[1] + .0722*c[2]*c[2]
	if light = c; luminance > .18 {
		light = c.mix(black, 1-math.Sqrt(.18/luminance))
	}
	if dark = c; luminance < .31 {
		dark = c.mix(white, .55)
	}
	return light, dark
}

func (c rgb) mix(other rgb, share float64) rgb {
	for i := range c {
		c[i] += (other[i] - c[i]) * share
	}
	return c
}

func (c rgb) String() string {
	channel := func(v float64) int { return int(math.Round(v * 255)) }
	return fmt.Sprintf("#%02x%02x%02x", channel(c[0]), channel(c[1]), channel(c[2]))
}
