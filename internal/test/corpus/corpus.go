// Package corpus gives tests real and awkward mail: the golden mails of internal/rewrite, and the
// corpus that lies beside the project and not in it. Only tests import it.
package corpus

import (
	"bytes"
	"iter"
	"os"
	"path/filepath"
	"testing"
)

// Golden returns the golden mails by their names.
func Golden(tb testing.TB) iter.Seq2[string, []byte] {
	return mails(tb, "internal/rewrite/testdata/golden/*.eml")
}

// Mails returns the mails of the corpus by their names; without a corpus, none.
func Mails(tb testing.TB) iter.Seq2[string, []byte] { return mails(tb, "../shared/corpus/*/*") }

// All returns the golden mails, and then those of the corpus.
func All(tb testing.TB) iter.Seq2[string, []byte] {
	return mails(tb, "internal/rewrite/testdata/golden/*.eml", "../shared/corpus/*/*")
}

func mails(tb testing.TB, patterns ...string) iter.Seq2[string, []byte] {
	tb.Helper()
	var paths []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(root(tb), pattern))
		if err != nil {
			tb.Fatal(err)
		}
		paths = append(paths, found...)
	}
	return func(yield func(string, []byte) bool) {
		for _, path := range paths {
			mail, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			if !yield(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)), mail) {
				return
			}
		}
	}
}

// Each calls f with every mail of the corpus, as found and with CR LF for each line end. The test
// is skipped if there is no corpus.
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

// Want skips a test that met no mail of the corpus, and fails one that met only a part of it.
func Want(t *testing.T, n int) {
	t.Helper()
	switch {
	case n == 0:
		t.Skip("no corpus beside the project")
	case n < 800:
		t.Fatalf("%d mails in the corpus, want 875", n)
	}
}

// CRLF is mail with CR LF for each line end.
func CRLF(mail []byte) []byte {
	lf := bytes.ReplaceAll(mail, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
}

// Small returns the golden mails, and those of the corpus, that are shorter than limit: seeds of
// fuzz targets, which are fast with small ones.
func Small(tb testing.TB, limit int) (small [][]byte) {
	for _, mail := range All(tb) {
		if len(mail) < limit {
			small = append(small, mail)
		}
	}
	return small
}

// root is the project's folder. A test runs in the folder of its package.
func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	tb.Fatal("no go.mod above the working directory")
	return ""
}
