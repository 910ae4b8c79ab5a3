package gateway

import (
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEveryTextIsThere(t *testing.T) {
	catalogue, err := loadTexts()
	check(t, err)
	languages := catalogue.languages
	english := languages["en"]
	frame, err := os.ReadFile("viewer/pdf.html")
	check(t, err)
	used := []string{"months", "date", "decimal", "size.byte", "size.bytes", "page.until", "page.title", "home.title", "home.text", "error.internal.title", "error.internal.text"}
	for _, m := range regexp.MustCompile(`\.Text "([^"]+)"`).FindAllStringSubmatch(mustRead("page.html")+string(frame), -1) {
		used = append(used, m[1])
	}
	for _, f := range failures {
		used = append(used, "error."+f.key+".title", "error."+f.key+".text")
	}
	for _, key := range used {
		if english.Text(key) == "" {
			t.Errorf("no text %q", key)
		}
	}
	for name, texts := range languages {
		if len(strings.Fields(texts["months"])) != 12 {
			t.Errorf("%s: months: got %q", name, texts["months"])
		}
		for key := range english {
			if texts[key] == "" {
				t.Errorf("%s: no text %q", name, key)
			}
		}
	}
	known := strings.Join(used, " ")
	for key := range english {
		if !strings.Contains(known, key) {
			t.Errorf("text %q is not used", key)
		}
	}
}

func TestSize(t *testing.T) {
	texts := newPages("", Brand{}).texts.languages["en"]
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 999: "999 bytes", 1000: "1\u00a0KB", 1049: "1\u00a0KB", 1050: "1.1\u00a0KB",
		9_949: "9.9\u00a0KB", 9_950: "10\u00a0KB", 999_499: "999\u00a0KB", 999_500: "1\u00a0MB", 12_345_678: "12\u00a0MB",
		5_000_000_000: "5\u00a0GB", 999_999_999_999: "1\u00a0TB", 9_000_000_000_000_000: "9000\u00a0TB",
	} {
		if got := texts.size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestMoment(t *testing.T) {
	texts := newPages("", Brand{}).texts.languages["en"]
	m := texts.moment("page.until", time.Date(2026, 12, 22, 9, 5, 0, 0, time.FixedZone("", 3600)))
	if got, want := m.Before+m.Shown+m.After, "Available until 22 December 2026, 08:05 UTC"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if m.Time != "2026-12-22T08:05:00Z" {
		t.Errorf("got %q", m.Time)
	}
}

func TestPreferredLanguage(t *testing.T) {
	c, err := loadTexts()
	check(t, err)
	for header, want := range map[string]string{
		"": "en", "*": "en", "ja": "en", "xx-yy;q": "en",
		"de": "de", "de-CH,en;q=0.5": "de", "gsw": "de", "fr-CA": "fr", "es-419,es;q=0.9": "es",
		"en-US,de;q=0.9": "en", "ja, es;q=0.7, en;q=0.3": "es", "de;q=0.2, fr;q=0.8": "fr",
		strings.Repeat("de,", 1000): "en",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", header)
		if got := c.preferred(r).Text("lang"); got != want {
			t.Errorf("%.40q: got %s, want %s", header, got, want)
		}
	}
}

// A text in another language has the places to fill in that the English one has.
func TestTextsTakeTheSameValues(t *testing.T) {
	c, err := loadTexts()
	check(t, err)
	places := regexp.MustCompile(`\{\w+\}`)
	for name, texts := range c.languages {
		for key, english := range c.languages["en"] {
			got, want := places.FindAllString(texts[key], -1), places.FindAllString(english, -1)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s takes %v, want %v", name, key, got, want)
			}
		}
	}
}
