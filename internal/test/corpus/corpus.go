// Package corpus gives tests real and awkward mail: the golden mails and the cases of
// internal/rewrite, and a corpus in a folder beside the project. Only tests import it.
package corpus

import (
	"bytes"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// golden has the patterns of the mails that belong to the project.
var golden = []string{"internal/rewrite/testdata/golden/*.eml", "internal/rewrite/testdata/cases/*.eml"}

// Golden returns the golden mails and the cases by their names.
func Golden(tb testing.TB) iter.Seq2[string, []byte] { return mails(tb, golden...) }

// Mails returns the mails of the corpus by their names. Without a corpus it is empty.
func Mails(tb testing.TB) iter.Seq2[string, []byte] { return mails(tb, "../shared/corpus/*/*") }

// All returns the mails of Golden, and then those of the corpus.
func All(tb testing.TB) iter.Seq2[string, []byte] {
	return mails(tb, append(golden[:len(golden):len(golden)], "../shared/corpus/*/*")...)
}

func mails(tb testing.TB, patterns ...string) iter.Seq2[string, []byte] {
	tb.Helper()
	var paths []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(root(tb), pattern))
		must.Succeed(tb, err)
		paths = append(paths, found...)
	}
	return func(yield func(string, []byte) bool) {
		for _, path := range paths {
			mail, err := os.ReadFile(path)
			must.Succeed(tb, err)
			if !yield(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)), mail) {
				return
			}
		}
	}
}

// Each calls f with every mail of the corpus, unchanged and with CR LF for each line end. It skips
// the test if there is no corpus.
func Each(t *testing.T, f func(t *testing.T, mail []byte)) {
	t.Helper()
	n := 0
	for name, mail := range Mails(t) {
		n++
		t.Run(name+"/raw", func(t *testing.T) { f(t, mail) })
		t.Run(name+"/crlf", func(t *testing.T) { f(t, CRLF(mail)) })
	}
	Want(t, n)
}

// Want skips a test that saw no mail of the corpus, and fails one that saw only a part of it.
func Want(t *testing.T, n int) {
	t.Helper()
	switch {
	case n == 0:
		t.Skip("no corpus beside the project")
	case n < 800:
		t.Fatalf("%d mails in the corpus, want 875", n)
	}
}

// CRLF returns mail with CR LF for each line end.
func CRLF(mail []byte) []byte {
	lf := bytes.ReplaceAll(mail, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
}

// Delivered returns a mail as it would be delivered without Detach, which is what restoring gives:
// without Bcc and the like, and without the fields named in more. It reads the header line by line,
// without the program's code.
func Delivered(mail []byte, more ...string) []byte {
	omitted := append([]string{"bcc", "resent-bcc", "return-path", "content-length"}, more...)
	out, omitting, rest := make([]byte, 0, len(mail)), false, mail
	for line := range bytes.Lines(mail) {
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			name = bytes.TrimRight(name, " \t")
			omitting = slices.ContainsFunc(omitted, func(s string) bool { return strings.EqualFold(s, string(name)) })
		}
		if !omitting {
			out = append(out, line...)
		}
		rest = rest[len(line):]
	}
	return append(out, rest...)
}

// Small returns the mails of All that are shorter than limit, as seeds for fuzz targets, which are
// fast only with small seeds.
func Small(tb testing.TB, limit int) (small [][]byte) {
	for _, mail := range All(tb) {
		if len(mail) < limit {
			small = append(small, mail)
		}
	}
	return small
}

// root returns the project's folder, searched upwards from the test's package.
func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	must.Succeed(tb, err)
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	tb.Fatal("no go.mod above the working directory")
	return ""
}
