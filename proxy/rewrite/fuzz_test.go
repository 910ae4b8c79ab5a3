package rewrite

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// restore(rewrite(m)) = m for every m, and what has nothing to detach is not changed.
func FuzzRestore(f *testing.F) {
	seeds, err := filepath.Glob("testdata/golden/*.eml")
	if err != nil {
		f.Fatal(err)
	}
	corpus, err := filepath.Glob(corpusDir + "/*/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(seeds, corpus...) {
		mail, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(mail) < 16<<10 {
			f.Add(mail)
		}
	}
	f.Fuzz(func(t *testing.T, mail []byte) {
		d := newMemory()
		got, m, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 1, Language: "auto", Restore: true}, d)
		if err != nil {
			t.Fatal(err)
		}
		checkRestored(t, mail, got, m, d)
	})
}
