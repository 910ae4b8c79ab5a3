package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// restore(filter(m)) = m for every mail of the corpus, through the real vault and the embedded
// store.
func TestEveryMailIsRestoredFromTheStore(t *testing.T) {
	h, err := openApp(config.Config{DataDir: t.TempDir(), Store: config.Store{Kind: "embedded"}, Gateway: config.Gateway{URL: "https://files.example.org"}})
	must.Succeed(t, err)
	defer h.Close()
	mails, detached := corpus.All, 0
	if testing.Short() {
		mails = corpus.Golden
	}
	for name, mail := range mails(t) {
		rewritten, n := filterMail(t, h, mail)
		if detached += n; n == 0 {
			if !bytes.Equal(rewritten, mail) {
				t.Errorf("%s: nothing was detached, and it was changed", name)
			}
			continue
		}
		links, err := skeleton.Links(bytes.NewReader(rewritten))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got bytes.Buffer
		if err := h.restore(context.Background(), &got, links); err != nil || !bytes.Equal(got.Bytes(), mail) {
			t.Errorf("%s: restored %d bytes of %d, error %v", name, got.Len(), len(mail), err)
		}
	}
	t.Logf("%d attachments detached", detached)
}

func filterMail(t *testing.T, h *app, mail []byte) ([]byte, int) {
	t.Helper()
	m, err := rewrite.Read(bytes.NewReader(mail), rewrite.Policy{MinSize: 1, Language: "auto", Restore: true})
	must.Succeed(t, err)
	defer m.Close()
	if !m.Passes() {
		batch := h.vault.Begin()
		must.Succeed(t, m.Detach(context.Background(), batch))
		must.Succeed(t, batch.Commit(context.Background()))
	}
	var out bytes.Buffer
	_, err = m.WriteTo(&out)
	must.Succeed(t, err)
	return out.Bytes(), m.Stats().Detached
}
