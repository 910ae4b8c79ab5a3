package notice

import (
	"strings"
	"testing"
)

// Even with a name of 60 letters beyond ASCII, in 8bit text and with the longest of escapes in
// HTML. (Quoted-printable makes nine bytes of each letter and goes over.)
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
