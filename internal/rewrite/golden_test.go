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
			checkGolden(t, path, mail, Policy{MinSize: 1, Language: "auto", Restore: true})
		})
	}
	if pairs < 65 {
		t.Errorf("%d pairs, want at least 65", pairs)
	}
}

// checkGolden compares a rewritten mail with the .want.eml file beside the mail.
func checkGolden(t *testing.T, path string, mail []byte, p Policy) {
	t.Helper()
	wantPath := strings.TrimSuffix(path, ".eml") + ".want.eml"
	got, _ := goldenRewrite(t, mail, p)
	if *update {
		must.Succeed(t, os.WriteFile(wantPath, got, 0o644))
	}
	want, err := os.ReadFile(wantPath)
	must.Succeed(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("first difference at %d; got:\n%s", firstDifference(got, want), got)
	}
}

// goldenRewrite returns a rewritten mail and what was detached. It checks that restoring gives the
// mail, that the sizes of reads make no difference, and that a second pass changes nothing.
func goldenRewrite(t *testing.T, mail []byte, p Policy) ([]byte, []file) {
	t.Helper()
	rewrite := func(src io.Reader) ([]byte, []file) {
		d := newMemory()
		d.expires = time.Date(2027, 2, 21, 0, 0, 0, 0, time.UTC)
		got, m := mustRewrite(t, src, p, d)
		checkRestored(t, mail, got, m, d)
		return got, d.attachments()
	}
	got, files := rewrite(bytes.NewReader(mail))
	if slow, _ := rewrite(iotest.OneByteReader(bytes.NewReader(mail))); !bytes.Equal(slow, got) {
		t.Errorf("read byte by byte, first difference at %d", firstDifference(slow, got))
	}
	if again, _ := mustRewrite(t, bytes.NewReader(got), p, newMemory()); !bytes.Equal(again, got) {
		t.Error("passing a second time changed it")
	}
	return got, files
}
