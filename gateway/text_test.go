package gateway

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestEveryTextIsThere(t *testing.T) {
	languages, err := loadTexts()
	check(t, err)
	english := languages["en"]
	used := []string{"months", "date", "decimal", "size.byte", "size.bytes", "page.until", "page.title", "home.title", "home.text", "error.internal.title", "error.internal.text"}
	for _, m := range regexp.MustCompile(`\.Text "([^"]+)"`).FindAllStringSubmatch(mustRead("page.html"), -1) {
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
	texts := newPages("").languages["en"]
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
	texts := newPages("").languages["en"]
	m := texts.moment("page.until", time.Date(2026, 12, 22, 9, 5, 0, 0, time.FixedZone("", 3600)))
	if got, want := m.Before+m.Shown+m.After, "Available until 22 December 2026, 08:05 UTC"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if m.Time != "2026-12-22T08:05:00Z" {
		t.Errorf("got %q", m.Time)
	}
}
