package notice

import (
	"strings"
	"testing"
)

func TestSizesInWords(t *testing.T) {
	en, de := catalogue()["en"], catalogue()["de"]
	for _, tt := range []struct {
		words *Words
		bytes int64
		want  string
	}{
		{en, 0, "0 bytes"}, {en, 999, "999 bytes"}, {en, 1000, "1.0 KB"}, {de, 1500, "1,5 KB"}, {en, 9949, "9.9 KB"},
		{en, 9950, "10 KB"}, {en, 999_499, "999 KB"}, {en, 999_500, "1.0 MB"}, {de, 25_000_000, "25 MB"}, {en, 5_300_000_000_000, "5300 GB"},
	} {
		if got := tt.words.size(tt.bytes); got != tt.want {
			t.Errorf("%d: got %q, want %q", tt.bytes, got, tt.want)
		}
	}
}

// Even with a name of 60 letters beyond ASCII, in 8bit text and with the longest of escapes in HTML.
// (Quoted-printable makes nine bytes of each letter and goes over.)
func TestNoticeIsSmallWithLongNames(t *testing.T) {
	for name, limit := range map[string]int{
		strings.Repeat("n", 60) + ".pdf": 1000,
		strings.Repeat("é", 60) + ".pdf": 1250,
		strings.Repeat("報", 60) + ".pdf": 1500,
	} {
		n := testNotice("en", name)
		one := len(n.text(false)) + len(n.html())
		if one >= limit {
			t.Errorf("%s: %d bytes, want under %d", name, one, limit)
		}
		n.Files = append(n.Files, n.Files[0])
		t.Logf("%.8s: first %d bytes, each further %d", name, one, len(n.text(false))+len(n.html())-one)
	}
}
