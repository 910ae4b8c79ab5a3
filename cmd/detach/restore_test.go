package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

const corpusDir = "../../../shared/corpus"

// restore(filter(m)) = m for every mail of the corpus, through the real vault and the embedded store.
func TestEveryMailIsRestoredFromTheStore(t *testing.T) {
	paths, err := filepath.Glob("../../internal/rewrite/testdata/golden/*[a-z].eml")
	if err != nil || len(paths) == 0 {
		t.Fatal("no golden mails: ", err)
	}
	if _, err := os.Stat(corpusDir); err == nil && !testing.Short() {
		err := filepath.WalkDir(corpusDir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && e.Name() != "INDEX.tsv" && e.Name() != "README.md" {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := openApp(config.Config{DataDir: t.TempDir(), Store: config.Store{Kind: "embedded"}, Gateway: config.Gateway{URL: "https://files.example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	detached := 0
	for _, path := range paths {
		mail, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rewritten, n := filterMail(t, h, mail)
		if detached += n; n == 0 {
			if !bytes.Equal(rewritten, mail) {
				t.Errorf("%s: nothing was detached, and it was changed", path)
			}
			continue
		}
		links, err := skeleton.Links(bytes.NewReader(rewritten))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var got bytes.Buffer
		if err := h.restore(context.Background(), &got, links); err != nil || !bytes.Equal(got.Bytes(), mail) {
			t.Errorf("%s: restored %d bytes of %d, error %v", path, got.Len(), len(mail), err)
		}
	}
	t.Logf("%d mails, %d attachments detached", len(paths), detached)
}

func filterMail(t *testing.T, h *app, mail []byte) ([]byte, int) {
	t.Helper()
	m, err := rewrite.Read(bytes.NewReader(mail), rewrite.Policy{MinSize: 1, Language: "auto", Restore: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !m.Passes() {
		batch := h.vault.Begin()
		if err := m.Detach(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		if err := batch.Commit(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := m.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), m.Stats().Detached
}
