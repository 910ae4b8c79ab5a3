package rewrite

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var update = flag.Bool("update", false, "write the .want.eml files anew; read the difference")

// Each pair in testdata/golden is a mail, and the mail that its recipients receive.
func TestGoldenMails(t *testing.T) {
	mails, err := filepath.Glob("testdata/golden/[0-9][0-9]-*.eml")
	must.Succeed(t, err)
	pairs := 0
	for _, path := range mails {
		if strings.HasSuffix(path, ".want.eml") {
			continue
		}
		pairs++
		t.Run(filepath.Base(path), func(t *testing.T) {
			mail, err := os.ReadFile(path)
			must.Succeed(t, err)
			if n, _ := strconv.Atoi(filepath.Base(path)[:2]); n >= 20 && !bytes.Contains(mail, []byte("\nX-Why: ")) {
				t.Error("no X-Why field that says what the mail shows")
			}
			wantPath := strings.TrimSuffix(path, ".eml") + ".want.eml"
			rewrite := func(src io.Reader) []byte {
				d := newMemory()
				d.expires = time.Date(2027, 2, 20, 0, 0, 0, 0, time.UTC)
				got, m := mustRewrite(t, src, Policy{MinSize: 1, Language: "auto", Restore: true}, d)
				checkRestored(t, mail, got, m, d)
				return got
			}
			got := rewrite(bytes.NewReader(mail))
			if *update {
				must.Succeed(t, os.WriteFile(wantPath, got, 0o644))
			}
			want, err := os.ReadFile(wantPath)
			must.Succeed(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("first difference at %d; got:\n%s", firstDifference(got, want), got)
			}
			if slow := rewrite(iotest.OneByteReader(bytes.NewReader(mail))); !bytes.Equal(slow, want) {
				t.Errorf("read byte by byte, first difference at %d", firstDifference(slow, want))
			}
			again, _ := mustRewrite(t, bytes.NewReader(got), Policy{MinSize: 1, Restore: true}, newMemory())
			if !bytes.Equal(again, got) {
				t.Error("passing a second time changed it")
			}
		})
	}
	if pairs < 65 {
		t.Errorf("%d pairs, want at least 65", pairs)
	}
}
