package transaction_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	. "github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// faulty is a real vault over a store that fails when a test says so.
type faulty struct {
	t         *testing.T
	dir, temp string
	vault     *vault.Vault
	log       strings.Builder
	failAt    int64  // storing fails after so many bytes of a mail's attachments; -1: never
	moment    func() // called when storing fails
	putFails  bool   // complete objects cannot be pinned
	commit    error
}

func newFaulty(t *testing.T, store func(dir string) (ipfs.Store, error)) *faulty {
	t.Helper()
	f := &faulty{t: t, dir: t.TempDir(), temp: t.TempDir(), failAt: -1, moment: func() {}}
	s, err := store(filepath.Join(f.dir, "objects"))
	must.Succeed(t, err)
	t.Cleanup(func() { s.Close() })
	keys, err := keyring.Open(filepath.Join(f.dir, "keys"))
	must.Succeed(f.t, err)
	f.vault, _ = installation.Open(t, f.dir, vault.Config{BaseURL: "https://files.example"}, &pinless{s, f}, keys, nil)
	return f
}

func openEmbedded(dir string) (ipfs.Store, error) { return embedded.Open(dir, nil) }

func kuboAt(url string) func(string) (ipfs.Store, error) {
	return func(string) (ipfs.Store, error) { return kubo.New(kubo.Config{API: url}) }
}

// pinless is a store that does not pin the objects that it takes, if putFails is set.
type pinless struct {
	ipfs.Store
	f *faulty
}

func (s *pinless) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	root, err := s.Store.Put(ctx, name, build)
	if err == nil && s.f.putFails {
		return cid.Undef, fmt.Errorf("%w: pin: no space left", ipfs.ErrUnavailable)
	}
	return root, err
}

// failing is a real batch whose source fails after left bytes.
type failing struct {
	Batch
	f    *faulty
	left int64
}

func (b *failing) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	return b.DetachEncoded(ctx, name, mediaType, r, func() io.Reader { return nil })
}

func (b *failing) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, encoded func() io.Reader) (link.Link, error) {
	if b.left >= 0 {
		r = io.MultiReader(io.TeeReader(io.LimitReader(r, b.left), countdown{&b.left}), b)
	}
	return b.Batch.DetachEncoded(ctx, name, mediaType, r, encoded)
}

// Read fails, unless the attachment has ended before.
func (b *failing) Read([]byte) (int, error) {
	if b.left > 0 {
		return 0, io.EOF
	}
	b.f.moment()
	return 0, fmt.Errorf("%w: no space left", ipfs.ErrUnavailable)
}

type countdown struct{ left *int64 }

func (c countdown) Write(p []byte) (int, error) {
	*c.left -= int64(len(p))
	return len(p), nil
}

func (b *failing) Commit(ctx context.Context) error {
	if b.f.commit != nil {
		return b.f.commit
	}
	return b.Batch.Commit(ctx)
}

// send takes a mail through a transaction, to a next hop that accepts everything.
func (f *faulty) send(mode OnFailure, src string) (string, Outcome, error) {
	cfg := Config{
		Policy: func(Envelope) rewrite.Policy {
			return rewrite.Policy{MinSize: 1, Language: "en", Space: spool.NewSpace(f.temp, nil, 1<<40)}
		},
		Begin:     func() Batch { return &failing{f.vault.Begin(0), f, f.failAt} },
		OnFailure: mode,
	}
	tx := &mail{Transaction: Begin(cfg, Envelope{}, strings.NewReader(src), slog.New(slog.NewTextHandler(&f.log, nil)))}
	defer tx.Close(f.t.Context())
	out, err := tx.deliver(f.t.Context())
	if err == nil {
		tx.Settle(f.t.Context(), Accepted)
	}
	return out, tx.Outcome(err), err
}

// fails sends a mail whose storing fails, and checks that nothing of it stays stored.
func (f *faulty) fails(mode OnFailure, what, src string) {
	f.t.Helper()
	out, o, err := f.send(mode, src)
	if mode == TempFail && err == nil {
		f.t.Errorf("%s: no error", what)
	}
	if mode == Deliver && (err != nil || out != src || o.Result != ResultOriginal) {
		f.t.Errorf("%s: the original did not go on unchanged: %v, %v", what, o.Result, err)
	}
	if kept := f.kept(); len(kept) > 0 {
		f.t.Errorf("%s: %v stays", what, kept)
	}
}

// kept returns everything that is stored, noted or spooled.
func (f *faulty) kept() (all []string) {
	f.t.Helper()
	for _, pattern := range []string{"objects/*", "pending/*"} {
		names, err := filepath.Glob(filepath.Join(f.dir, pattern))
		must.Succeed(f.t, err)
		all = append(all, names...)
	}
	return append(all, f.spools()...)
}

// spools returns the open files of the directory for temporary files, where they have no names.
func (f *faulty) spools() (all []string) {
	f.t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	must.Succeed(f.t, err)
	for _, fd := range fds {
		if at, _ := os.Readlink(fd); strings.HasPrefix(at, f.temp) {
			all = append(all, at)
		}
	}
	return all
}

func inEachMode(t *testing.T, store func(dir string) (ipfs.Store, error), f func(t *testing.T, f *faulty, mode OnFailure)) {
	for name, mode := range map[string]OnFailure{"tempfail": TempFail, "deliver": Deliver} {
		t.Run(name, func(t *testing.T) { f(t, newFaulty(t, store), mode) })
	}
}

// Storing fails after each byte of either attachment, and after the last.
func TestStoringFailsAtEveryByte(t *testing.T) {
	faults.Covers(t, 38, 43)
	one := attachment(40)
	part := one[strings.Index(one, "\r\n--b\r\nContent-Type: application/pdf")+2 : strings.Index(one, "--b--")]
	src := strings.Replace(one, "--b--", part+"--b--", 1) + "epilogue\r\n.\r\n..\r\n"
	inEachMode(t, openEmbedded, func(t *testing.T, f *faulty, mode OnFailure) {
		for f.failAt = 0; f.failAt < 80; f.failAt++ {
			f.fails(mode, fmt.Sprintf("after %d bytes", f.failAt), src)
		}
		f.failAt = -1
		if out, o, err := f.send(mode, src); err != nil || o.Attachments != 2 || !strings.Contains(out, "https://files.example/baf") {
			t.Errorf("%d attachments, %v: not detached: %q", o.Attachments, err, out)
		}
	})
}

// Storing fails within an attachment of several blocks. Only Deliver keeps the original in a spool,
// and the spool is gone with the mail.
func TestStoringFailsInALargeAttachment(t *testing.T) {
	faults.Covers(t, 38, 43)
	const size = 3<<20 + 5
	src := attachment(size) + "..\r\n"
	inEachMode(t, openEmbedded, func(t *testing.T, f *faulty, mode OnFailure) {
		f.putFails = true
		f.moment = func() {
			want := 0
			if mode == Deliver && f.failAt >= 1<<20-1 { // less stays in memory
				want = 1
			}
			if got := f.spools(); len(got) != want && runtime.GOOS == "linux" {
				t.Errorf("after %d bytes: spools %v, want %d", f.failAt, got, want)
			}
		}
		for _, f.failAt = range []int64{0, 1, 56, 57, 58, 4096, 65536, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2<<20 + 77, 3 << 20, size - 1, size} {
			f.fails(mode, fmt.Sprintf("after %d bytes", f.failAt), src)
		}
		f.failAt = -1
		f.fails(mode, "at the pin", src)
	})
}

// At Commit the next hop already has most of the mail, so the original cannot follow.
func TestCommitFailureLeavesNothingInEitherMode(t *testing.T) {
	faults.Covers(t, 21)
	inEachMode(t, openEmbedded, func(t *testing.T, f *faulty, mode OnFailure) {
		f.commit = errors.New("ledger: no space left")
		if _, _, err := f.send(mode, attachment(3<<20)); !errors.Is(err, f.commit) {
			t.Errorf("got %v, want %v", err, f.commit)
		}
		if kept := f.kept(); len(kept) > 0 {
			t.Errorf("%v stays", kept)
		}
	})
}

// The operator finds the node's reason in the log.
func TestReasonOfTheNodeIsKept(t *testing.T) {
	faults.Covers(t, 43)
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		if strings.HasSuffix(r.URL.Path, "/pin/rm") { // sent if the whole object was ready before the answer
			io.WriteString(w, `{"Message":"not pinned or pinned indirectly","Code":0,"Type":"error"}`)
			return
		}
		io.WriteString(w, `{"Message":"write /srv/ipfs/blocks/AA: no space left on device","Code":0,"Type":"error"}`)
	}))
	defer node.Close()
	inEachMode(t, kuboAt(node.URL), func(t *testing.T, f *faulty, mode OnFailure) {
		f.fails(mode, "500", attachment(3<<20))
		said := f.log.String()
		if mode == TempFail { // the door logs the error
			_, _, err := f.send(mode, attachment(3<<20))
			said = err.Error()
		}
		if !strings.Contains(said, "no space left on device") || strings.Contains(said, "secret") {
			t.Errorf("%q does not have the reason, or names the file", said)
		}
	})
}

func TestMailWithoutAttachmentsNeedsNoNode(t *testing.T) {
	faults.Covers(t, 38)
	inEachMode(t, kuboAt("http://127.0.0.1:1"), func(t *testing.T, f *faulty, mode OnFailure) { // nothing listens there
		f.fails(mode, "node down", attachment(100))
		if out, o, err := f.send(mode, plain); err != nil || out != plain || o.Result != ResultUnchanged {
			t.Errorf("got %q, %v, %v", out, o.Result, err)
		}
	})
}

// Without random bytes there is no key, and therefore no mail with a link.
func TestNoRandomBytesNoMail(t *testing.T) {
	faults.Covers(t, 75)
	f := newFaulty(t, openEmbedded)
	kernel := rand.Reader
	defer func() { rand.Reader = kernel }()
	rand.Reader = iotest.ErrReader(errors.New("no entropy"))
	f.fails(TempFail, "no random bytes", attachment(100))
	rand.Reader = kernel
	if _, o, err := f.send(TempFail, attachment(100)); err != nil || o.Result != ResultDetached {
		t.Errorf("afterwards: %v, %v", o.Result, err)
	}
}
