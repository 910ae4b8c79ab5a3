package notice

import (
	"strings"
	"testing"
)

// The notice stays small even for a name of 60 letters beyond ASCII, in 8bit text and with the
// longest escapes in HTML. (Quoted-printable needs nine bytes for such a letter, and is larger.)
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
