// Package corpus gives tests real and awkward mail: the golden mails of internal/rewrite, and the
// corpus that lies beside the project and not in it. Only tests import it.
package corpus

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each calls f with every mail of the corpus, as found and with CR LF for each line end. The test
// is skipped if there is no corpus.
func Each(t *testing.T, f func(t *testing.T, mail []byte)) {
	t.Helper()
	dir := filepath.Join(root(t), "../shared/corpus")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no corpus beside the project: ", err)
	}
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "INDEX.tsv" || e.Name() == "README.md" {
			return err
		}
		mail, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		name := strings.TrimPrefix(path, dir+"/")
		t.Run(name+"/raw", func(t *testing.T) { f(t, mail) })
		t.Run(name+"/crlf", func(t *testing.T) { f(t, CRLF(mail)) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 800 {
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
func Small(tb testing.TB, limit int) [][]byte {
	tb.Helper()
	var mails [][]byte
	for _, pattern := range []string{"internal/rewrite/testdata/golden/*.eml", "../shared/corpus/*/*"} {
		paths, err := filepath.Glob(filepath.Join(root(tb), pattern))
		if err != nil {
			tb.Fatal(err)
		}
		for _, path := range paths {
			mail, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			if len(mail) < limit {
				mails = append(mails, mail)
			}
		}
	}
	return mails
}

// root is the project's folder. A test runs in the folder of its package.
func root(tb testing.TB) string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	tb.Fatal("no go.mod above the working directory: ", err)
	return ""
}
