package gateway

import (
	"bytes"
	"image"
	"image/png"
	"io"
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

func TestBrandRefuses(t *testing.T) {
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
		"two at once":   {Brand{Color: "x", Contact: "y"}, "color: "},
	} {
		if err := c.brand.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
	for _, logo := range [][]byte{pngOf(t, 16), []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), []byte("<?xml version='1.0'?>\n<!-- ours -->\n<svg />")} {
		if err := (Brand{Logo: logo, Color: "#1A56c4", Contact: "abuse@example.org", Name: "<b>"}).Check(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever colour an operator likes, the button's text can be read.
func TestBrandIsLegible(t *testing.T) {
	for _, color := range []rgb{{0, 0, 0}, {1, 1, 1}, {1, 1, 0}, {0, 0, 1}, {.5, .5, .5}, {1, .6, 0}, {.1, .3, .2}} {
		light, dark := color.until(rgb{}, white), color.until(white, darkCard)
		if got := contrast(light, white); got < legible {
			t.Errorf("%v: contrast %.2f on white", color, got)
		}
		if got := contrast(dark, darkCard); got < legible {
			t.Errorf("%v: contrast %.2f in the dark", color, got)
		}
		if got := contrast(dark, rgb{}); got < legible {
			t.Errorf("%v: contrast %.2f of the button's text in the dark", color, got)
		}
	}
}

func TestBrandIsShown(t *testing.T) {
	f := newFixture(t, options{})
	l := f.put("a.pdf", []byte("x"))
	f.serve(f.vault, Config{Brand: Brand{Name: "Café <Müller>", Color: "#0a7d4f", Logo: pngOf(t, 16), Contact: "abuse@example.org"}})
	for _, path := range []string{"/" + l.CID.String(), "/"} {
		resp := f.get(path, "Accept-Language", "fr")
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		for _, want := range []string{"Café &lt;Müller&gt;", "#0a7d4f", `src="data:image/png;base64,`, `href="mailto:abuse@example.org"`, "Signaler un abus", `lang="fr"`} {
			if !bytes.Contains(body, []byte(want)) {
				t.Errorf("%s: no %q", path, want)
			}
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, viewer.BlockHash(between(t, string(body), "<style>", "</style>"))) {
			t.Errorf("%s: the policy does not allow the page's own style: %s", path, csp)
		}
	}
}

func between(t *testing.T, s, before, after string) string {
	t.Helper()
	_, s, ok := strings.Cut(s, before)
	s, _, ok2 := strings.Cut(s, after)
	if !ok || !ok2 {
		t.Fatalf("nothing between %q and %q", before, after)
	}
	return s
}
