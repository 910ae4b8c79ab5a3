package gateway

import (
	"bytes"
	"image"
	"image/png"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
)

func pngOf(t *testing.T, side int) []byte {
	t.Helper()
	var b bytes.Buffer
	check(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, side, side))))
	return b.Bytes()
}

func TestWrongBrandIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		brand Brand
		want  string
	}{
		"color name":    {Brand{Color: "red"}, "color: "},
		"color injects": {Brand{Color: "#000;}x{"}, "color: "},
		"logo too big":  {Brand{Logo: append(pngOf(t, 8), make([]byte, maxLogo)...)}, "at most 12288"},
		"logo is html":  {Brand{Logo: []byte("<html><svg>")}, "not an image"},
		"contact":       {Brand{Contact: "javascript:alert(1)"}, "contact: "},
		"http":          {Brand{Contact: "http://example.org"}, "contact: "},
		"two errors":    {Brand{Color: "x", Contact: "y"}, "color: "},
	} {
		if err := c.brand.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
	for _, logo := range [][]byte{pngOf(t, 16), []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), []byte("<?xml version='1.0'?>\n<!-- ours -->\n<svg />")} {
		check(t, (Brand{Logo: logo, Color: "#1A56c4", Contact: "abuse@example.org", Name: "<b>"}).Check())
	}
}

// Every color gives legible text on white, on a dark card, and on a button in the dark.
func TestBrandIsLegible(t *testing.T) {
	const needed = 4.5                                     // WCAG 2.2, 1.4.3
	darkCard := rgb{0x1e / 255., 0x22 / 255., 0x26 / 255.} // --card in the dark, in page.css
	const steps = 20
	for n := range steps * steps * steps {
		channel := func(n int) float64 { return float64(n%steps) / (steps - 1) }
		light, dark := rgb{channel(n), channel(n / steps), channel(n / steps / steps)}.legible()
		for _, pair := range [][2]rgb{{white, light}, {dark, darkCard}, {dark, black}} {
			if got := (luminance(pair[0]) + .05) / (luminance(pair[1]) + .05); got < needed {
				t.Fatalf("%v on %v: contrast %.2f", pair[0], pair[1], got)
			}
		}
	}
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(c rgb) float64 {
	for i, v := range c {
		if c[i] = v / 12.92; v > .04045 {
			c[i] = math.Pow((v+.055)/1.055, 2.4)
		}
	}
	return .2126*c[0] + .7152*c[1] + .0722*c[2]
}

func TestBrandIsShown(t *testing.T) {
	f := newFixture(t, 0)
	l := f.put("a.pdf", []byte("x"))
	f.serve(f.vault, Config{Brand: Brand{Name: "Café <Müller>", Color: "#0a7d4f", Logo: pngOf(t, 16), Contact: "abuse@example.org"}})
	for _, path := range []string{"/" + l.CID.String(), "/"} {
		resp := f.get(path, "Accept-Language", "fr")
		body := string(readAll(t, resp))
		wantText(t, path, body, "Café &lt;Müller&gt;", "#0a7d4f", `src="data:image/png;base64,`, `href="mailto:abuse@example.org"`, "Signaler un abus", `lang="fr"`)
		wantBlockAllowed(t, resp, body, "style")
	}
}

// wantBlockAllowed wants the policy of a page to allow its own style or script.
func wantBlockAllowed(t *testing.T, resp *http.Response, html, tag string) {
	t.Helper()
	_, rest, _ := strings.Cut(html, "<"+tag+">")
	block, _, ok := strings.Cut(rest, "</"+tag+">")
	if csp := resp.Header.Get("Content-Security-Policy"); !ok || !strings.Contains(csp, tag+"-src "+viewer.BlockHash(block)) {
		t.Errorf("the policy does not allow the page's own %s: %s", tag, csp)
	}
}
