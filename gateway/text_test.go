package gateway

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// The catalogue has exactly the texts that the pages use.
func TestPagesUseTheirTexts(t *testing.T) {
	frame, err := os.ReadFile("viewer/pdf.html")
	check(t, err)
	used := []string{"page.until", "page.title", "home.title", "home.text", "error.internal.title", "error.internal.text"}
	for _, m := range regexp.MustCompile(`\.Text "([^"]+)"`).FindAllStringSubmatch(mustRead("page.html")+string(frame), -1) {
		used = append(used, m[1])
	}
	for _, f := range failures {
		used = append(used, "error."+f.key+".title", "error."+f.key+".text")
	}
	for _, key := range used {
		if texts.English().Text(key) == "" {
			t.Errorf("no text %q", key)
		}
	}
	known := strings.Join(used, " ")
	for key := range texts.English().Pages {
		if !strings.Contains(known, key) {
			t.Errorf("text %q is not used", key)
		}
	}
}

// The script and the server write sizes in the same words.
func TestScriptWritesSizesAsTheServerDoes(t *testing.T) {
	sizes := []int64{
		0, 1, 2, 999, 1000, 1049, 1050, 1149, 1150, 1250, 9_949, 9_950, 12_500, 999_499, 999_500, 12_345_678, 999_949_999, 999_950_000,
		5_000_000_000, 999_999_999_999, 2_250_000_000_000, 9_000_000_000_000_000,
	}
	for _, l := range texts.All() {
		words, err := view{Language: l}.SizeWords()
		check(t, err)
		var got []string
		runScript(t, `async ({ lang, words, sizes }) => {
			globalThis.document = { documentElement: { lang }, getElementById: () => ({ dataset: { words } }) };
			return sizes.map(detach.all.size);
		}`, map[string]any{"lang": l.Code, "words": words, "sizes": sizes}, &got)
		if len(got) != len(sizes) {
			t.Fatalf("%d sizes of %d", len(got), len(sizes))
		}
		for i, n := range sizes {
			if want := sizeOf(l, n); got[i] != want {
				t.Errorf("%s: %d: the script writes %q, the server %q", l.Code, n, got[i], want)
			}
		}
	}
}

// People read the last day, in UTC, in the page as in the mail's notice.
func TestPageSaysTheLastDay(t *testing.T) {
	d := lastDayBefore(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC), texts.English())
	if got, want := d.Before+d.Shown+d.After, "Available until 30 June 2027 (UTC)"; got != want || d.Day != "2027-06-30" {
		t.Errorf("got %q on %s, want %q", got, d.Day, want)
	}
}
