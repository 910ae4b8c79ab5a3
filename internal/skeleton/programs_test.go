package skeleton

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Python's email package writes the field in many ways: folded, as encoded words, in a forwarded
// mail. (python/cpython#85725, #124452, #74717)
func TestLinksAreFoundInWhatPythonWrites(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("python3 is not installed")
	}
	l := testLink(1)
	cmd := exec.Command(python, "testdata/reserialize.py")
	cmd.Stdin = strings.NewReader("From: a@example.org\r\nTo: b@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n" + Field + ": " + l.URL() + "\r\n\r\nFrom here to there\r\n")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must.Succeed(t, err)
	var mails map[string]string
	must.Succeed(t, json.Unmarshal(out, &mails))
	if len(mails) < 40 {
		t.Errorf("%d mails, want more", len(mails))
	}
	for name, mail := range mails {
		got, err := Links(strings.NewReader(mail))
		if strings.HasPrefix(name, "forwarded") {
			f := NewFinder()
			_, _ = f.Write([]byte(mail))
			got, err = f.Links(), nil
		}
		if err != nil || !slices.Equal(got, []link.Link{l}) {
			t.Errorf("%s: got %v, error %v:\n%s", name, got, err, mail)
		}
	}
}
