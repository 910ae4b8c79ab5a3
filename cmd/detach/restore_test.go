package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// restore(filter(m)) is m as it would have been delivered, for every mail of the corpus, through
// the real vault and the embedded store.
func TestEveryMailIsRestoredFromTheStore(t *testing.T) {
	h, err := openApp(config.Config{DataDir: t.TempDir(), Store: config.Store{Kind: "embedded"}, Gateway: config.Gateway{URL: "https://files.example.org"}}, slog.New(slog.DiscardHandler))
	must.Succeed(t, err)
	defer h.Close()
	mails, detached := corpus.All, 0
	if testing.Short() {
		mails = corpus.Golden
	}
	for name, mail := range mails(t) {
		rewritten, n := filterMail(t, h, mail, 0)
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
		want := corpus.Delivered(mail)
		if err := h.restore(context.Background(), &got, links); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: restored %d bytes, want %d, error %v", name, got.Len(), len(want), err)
		}
	}
	t.Logf("%d attachments detached", detached)
}

func filterMail(t *testing.T, h *app, mail []byte, retention time.Duration) ([]byte, int) {
	t.Helper()
	m, err := rewrite.Read(bytes.NewReader(mail), rewrite.Policy{MinSize: 1, Language: "auto", Restore: true})
	must.Succeed(t, err)
	defer m.Close()
	if !m.Passes() {
		batch := h.vault.Begin(retention)
		must.Succeed(t, m.Detach(context.Background(), batch))
		must.Succeed(t, batch.Commit(context.Background()))
	}
	var out bytes.Buffer
	_, err = m.WriteTo(&out)
	must.Succeed(t, err)
	return out.Bytes(), m.Stats().Detached
}

// Fields that others added below ours do not keep a mail from being restored, whatever they lead
// to. Without a good field, the error says what is wrong with the others.
func TestWrongFieldsDoNotStopRestore(t *testing.T) {
	h, err := openApp(config.Config{DataDir: t.TempDir(), Store: config.Store{Kind: "embedded"}, Gateway: config.Gateway{URL: "https://files.example.org"}}, slog.New(slog.DiscardHandler))
	must.Succeed(t, err)
	defer h.Close()
	mail := []byte("Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n" +
		"Content-Disposition: attachment; filename=a.txt\r\n\r\ncontent\r\n--b--\r\n")
	links := func() (skeletonLink, file link.Link) {
		rewritten, n := filterMail(t, h, mail, 0)
		restore, err := skeleton.Links(bytes.NewReader(rewritten))
		must.Succeed(t, err)
		found := regexp.MustCompile(`https://files\.example\.org/\w{59}#\w+`).FindAll(rewritten, -1)
		file, err = link.Parse(string(found[len(found)-1])) // the header's is the first
		if err != nil || n != 1 {
			t.Fatalf("%d files detached, link: %v", n, err)
		}
		return restore[0], file
	}
	good, file := links()
	other, revoked := links()
	wrongKey, missing := good, file
	wrongKey.Fragment = other.Fragment
	missing.CID, err = cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum([]byte("of another Detach"))
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(filepath.Join(h.cfg.DataDir, "denied"), []byte(revoked.CID.String()), 0o600))
	for name, wrong := range map[string]struct {
		link link.Link
		want string
	}{
		"another key":       {wrongKey, "does not open with its link"},
		"an attachment":     {file, "leads to an attachment"},
		"revoked":           {revoked, "was revoked"},
		"of another Detach": {missing, "is not stored here"},
	} {
		var got bytes.Buffer
		if err := h.restore(t.Context(), &got, []link.Link{wrong.link, good}); err != nil || !bytes.Equal(got.Bytes(), mail) {
			t.Errorf("%s: restored %d bytes of %d, error %v", name, got.Len(), len(mail), err)
		}
		err := h.restore(t.Context(), &got, []link.Link{wrong.link, wrong.link, missing})
		if err == nil || !strings.Contains(err.Error(), wrong.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s, and no other field: got %v, want one line with %q", name, err, wrong.want)
		}
	}
}
