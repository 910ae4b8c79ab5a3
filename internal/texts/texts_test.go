package texts

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every language has all texts of English, in all its plural forms, with the same values to fill
// in.
func TestEveryLanguageIsComplete(t *testing.T) {
	if len(All()) < 4 || English().Code != "en" {
		t.Fatalf("%d languages, the first is %q; want at least 4, and English first", len(All()), English().Code)
	}
	for _, l := range All() {
		en := English()
		for name, forms := range map[string][2]Forms{
			"heading": {l.Heading, en.Heading}, "heading_until": {l.HeadingUntil, en.HeadingUntil}, "all": {l.All, en.All}, "bytes": {l.Bytes, en.Bytes},
		} {
			l.checkForms(t, name, forms[0], forms[1]["other"])
		}
		for key, english := range en.Pages {
			if text := l.Pages[key]; text == "" || !slices.Equal(values(text), values(english)) {
				t.Errorf("%s: pages.%s: got %q, want the values of %q", l.Code, key, text, english)
			}
		}
		for key := range l.Pages {
			if en.Pages[key] == "" {
				t.Errorf("%s: pages.%s: English has no such text", l.Code, key)
			}
		}
		for major := range en.Kinds {
			if l.Kinds[major] == "" || len(l.Kinds) != len(en.Kinds) {
				t.Errorf("%s: kinds: got %q, want the keys of %q", l.Code, l.Kinds, en.Kinds)
			}
		}
		for _, unit := range l.Units.Names {
			if !strings.Contains(unit, "{n}") {
				t.Errorf("%s: size.units: %q has no {n}", l.Code, unit)
			}
		}
		if l.Units.DecimalSign == "" || len(l.Units.Names) != len(en.Units.Names) || l.Date.First == "" || l.Dir == "" || len(l.Date.Months) != 12 || len(l.Detect.Words) < 30 {
			t.Errorf("%s: lacks dir, decimal_sign, units, first, twelve months or 30 words", l.Code)
		}
		if !slices.Equal(values(l.Date.Day), values(en.Date.Day)) {
			t.Errorf("%s: date: got %q, want the values of English", l.Code, l.Date.Day)
		}
	}
}

func (l *Language) checkForms(t *testing.T, name string, forms Forms, english string) {
	t.Helper()
	from := 0
	if name == "all" {
		from = 2 // one file has no file list
	}
	for n := from; n < 1000; n++ {
		if forms[l.formName(n)] == "" {
			t.Fatalf("%s: %s: lacks the form %q, which %d needs", l.Code, name, l.formName(n), n)
		}
	}
	for form, text := range forms {
		if text == "" || text != strings.TrimSpace(text) {
			t.Errorf("%s: %s.%s: is empty, or has blanks around it", l.Code, name, form)
		}
		for _, value := range values(english) {
			if value != "{count}" && !strings.Contains(text, value) { // the form "one" may leave out the number
				t.Errorf("%s: %s.%s: lacks %s", l.Code, name, form, value)
			}
		}
	}
}

// values returns the placeholders of a text, sorted.
func values(text string) []string {
	found := regexp.MustCompile(`\{\w+\}`).FindAllString(text, -1)
	slices.Sort(found)
	return found
}

func TestSizesAreRoundedToTwoDigitsOrMore(t *testing.T) {
	for _, tt := range []struct {
		code string
		n    int64
		want string
	}{
		{"en", 0, "0 bytes"}, {"en", 1, "1 byte"}, {"en", 999, "999 bytes"}, {"fr", 0, "0 octet"}, {"fr", 2, "2 octets"},
		{"en", 1000, "1 KB"}, {"en", 1049, "1 KB"}, {"en", 1050, "1.1 KB"}, {"de", 1500, "1,5 KB"}, {"fr", 1500, "1,5 ko"},
		{"en", 9_949, "9.9 KB"}, {"en", 9_950, "10 KB"}, {"en", 999_499, "999 KB"}, {"en", 999_500, "1 MB"}, {"de", 25_000_000, "25 MB"},
		{"en", 5_000_000_000, "5 GB"}, {"en", 999_999_999_999, "1 TB"}, {"en", 9_000_000_000_000_000, "9000 TB"},
	} {
		if got := In(tt.code).Size(tt.n); got != tt.want {
			t.Errorf("%s: %d: got %q, want %q", tt.code, tt.n, got, tt.want)
		}
	}
}

func TestFirstDayOfAMonthHasItsOwnForm(t *testing.T) {
	at := time.Date(2027, 2, 1, 0, 5, 0, 0, time.FixedZone("", 3600))
	for code, want := range map[string]string{"en": "1 February 2027", "de": "1. Februar 2027", "es": "1 de febrero de 2027", "fr": "1er février 2027"} {
		if got := In(code).Day(at); got != want {
			t.Errorf("%s: got %q, want %q", code, got, want)
		}
	}
}

func TestPreferredLanguage(t *testing.T) {
	for accept, want := range map[string]string{
		"": "en", "*": "en", "ja": "en", "xx-yy;q": "en",
		"de": "de", "de-CH,en;q=0.5": "de", "gsw": "de", "fr-CA": "fr", "es-419,es;q=0.9": "es",
		"en-US,de;q=0.9": "en", "ja, es;q=0.7, en;q=0.3": "es", "de;q=0.2, fr;q=0.8": "fr",
		strings.Repeat("de,", 1000): "en",
	} {
		if got := Preferred(accept).Code; got != want {
			t.Errorf("%.40q: got %s, want %s", accept, got, want)
		}
	}
}

func TestLastDayIsTheDayBeforeTheEnd(t *testing.T) {
	for end, want := range map[string]string{
		"2027-07-01T00:00:00Z":      "30 June 2027",
		"2028-03-01T00:00:00Z":      "29 February 2028",
		"2027-01-01T01:00:00+01:00": "31 December 2026",
	} {
		at, err := time.Parse(time.RFC3339, end)
		if err != nil {
			t.Fatal(err)
		}
		if got := English().Day(LastDay(at)); got != want {
			t.Errorf("%s: got %q, want %q", end, got, want)
		}
	}
}
