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

// maxLogo keeps pages small: each page contains the logo, so that it is one request.
const maxLogo = 12 << 10

// A Brand lets recipients recognize the operator. The zero Brand shows the links' host, and blue.
type Brand struct {
	Name    string // shown above the file; empty: the host of the links
	Color   string // of the button, #RRGGBB; empty: blue
	Logo    []byte // PNG, JPEG, WebP or SVG, at most 12 KiB; empty: none
	Contact string // for reports of misuse: a mail address or an https:// URL; empty: none
}

// A look is a Brand as the templates use it.
type look struct {
	Name    string
	Logo    template.URL
	Contact template.URL
	colors  string // CSS rules that follow the page's own
}

var (
	hexColor = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)
	svgStart = regexp.MustCompile(`^(\s|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>)*<svg[\s>]`)
)

// Check returns an error that says what is wrong with b and how to correct it.
func (b Brand) Check() error {
	_, err := b.look()
	return err
}

func (b Brand) look() (look, error) {
	l := look{Name: b.Name}
	var errs [3]error
	l.colors, errs[0] = colors(b.Color)
	l.Logo, errs[1] = dataURL(b.Logo)
	l.Contact, errs[2] = contactURL(b.Contact)
	return l, errors.Join(errs[:]...)
}

// dataURL returns a URL that contains the logo. An SVG in an img element neither runs nor loads.
func dataURL(logo []byte) (template.URL, error) {
	if len(logo) == 0 {
		return "", nil
	}
	if len(logo) > maxLogo {
		return "", fmt.Errorf("logo: %d bytes are too many for a part of every page; make it at most %d", len(logo), maxLogo)
	}
	kind := http.DetectContentType(logo)
	if svgStart.Match(logo) {
		kind = "image/svg+xml"
	}
	switch kind {
	case "image/png", "image/jpeg", "image/webp", "image/svg+xml":
		return template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(logo)), nil
	}
	return "", errors.New("logo: not an image that every browser shows; make it PNG, JPEG, WebP or SVG")
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
	return "", fmt.Errorf("contact: %q is neither a mail address nor an https:// URL", contact)
}

// rgb is a color of three channels, each from 0 to 1.
type rgb [3]float64

var black, white = rgb{}, rgb{1, 1, 1}

// colors returns CSS rules for the brand's color, made legible on light and on dark ground.
func colors(color string) (string, error) {
	if color == "" {
		return "", nil
	}
	if !hexColor.MatchString(color) {
		return "", fmt.Errorf("color: %q is not a color; write it like #1a56c4", color)
	}
	n, _ := strconv.ParseUint(color[1:], 16, 32)
	light, dark := rgb{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}.legible()
	return fmt.Sprintf(":root{--accent:%s;--over:%s}@media(prefers-color-scheme:dark){:root{--accent:%s;--over:%s;--on:#000}}",
		light, light.mix(black, .2), dark, dark.mix(white, .3)), nil
}

// legible returns the color for text on a white card and on a dark card. For the white card,
// squares estimate the luminance: they are larger than sRGB's curve, so the color is dark enough.
// On the dark card, more than half white is bright enough. TestBrandIsLegible checks both.
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
