package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// house is a rig with a real vault, whose store can be made to fail.
type house struct {
	*rig
	dir, temp string
	failAt    int64  // bytes of all of a mail's attachments after which storing fails; -1: never
	moment    func() // called there
	putFails  bool   // an object that is whole cannot be pinned
	commit    error  // of the batch
	open      func(dir string) ipfs.Store
}

// newHouse is given what is to be other than usual.
func newHouse(t *testing.T, mode OnFailure, change func(*house)) *house {
	t.Helper()
	h := &house{rig: &rig{t: t, hop: newHop(), log: &logBuffer{}}, dir: t.TempDir(), temp: t.TempDir(), failAt: -1, moment: func() {}}
	h.open = func(dir string) ipfs.Store {
		store, err := embedded.Open(filepath.Join(dir, "objects"))
		noError(t, err)
		return store
	}
	if change != nil {
		change(h)
	}
	store := &pinless{h.open(h.dir), h}
	t.Cleanup(func() { store.Close() })
	keys, err := crypto.OpenKeyring(filepath.Join(h.dir, "keys"))
	noError(t, err)
	v, err := vault.New(vault.Config{BaseURL: "https://files.example"}, store, keys, h.dir)
	noError(t, err)

	h.server = New(Config{
		NextHop: h.hop.listen(t), OnFailure: mode, Hostname: "filter.example",
		Policy: rewrite.Policy{MinSize: 1, Language: "en", TempDir: h.temp},
	}, func() Batch { return &failing{v.Begin(), h, h.failAt} }, h.log.logger())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(l) }()
	h.dial = func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		noError(t, err)
		c.SetDeadline(time.Now().Add(2 * patience))
		return c
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		noError(t, h.server.Shutdown(ctx))
		<-served
		checkLeaks(t)
	})
	return h
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pinless is a store that takes an object in and then does not pin it.
type pinless struct {
	ipfs.Store
	h *house
}

func (s *pinless) Put(ctx context.Context, name string, build func(ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	root, err := s.Store.Put(ctx, name, build)
	if err == nil && s.h.putFails {
		return cid.Undef, fmt.Errorf("%w: pin: no space left", ipfs.ErrUnavailable)
	}
	return root, err
}

// failing is a real batch that gives up in the middle.
type failing struct {
	Batch
	h    *house
	left int64
}

func (b *failing) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	if b.left >= 0 {
		r = io.MultiReader(&io.LimitedReader{R: &counted{r, &b.left}, N: b.left}, b)
	}
	return b.Batch.Detach(ctx, name, mediaType, r)
}

// Read is where it gives up, unless the attachment ended before.
func (b *failing) Read([]byte) (int, error) {
	if b.left > 0 {
		return 0, io.EOF
	}
	b.h.moment()
	return 0, fmt.Errorf("%w: no space left", ipfs.ErrUnavailable)
}

type counted struct {
	r    io.Reader
	left *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.left -= int64(n)
	return n, err
}

func (b *failing) Commit(ctx context.Context) error {
	if b.h.commit != nil {
		return b.h.commit
	}
	return b.Batch.Commit(ctx)
}

// kept is what is stored, or noted, or spooled.
func (h *house) kept() (all []string) {
	h.t.Helper()
	for _, pattern := range []string{"objects/*", "pending/*"} {
		names, err := filepath.Glob(filepath.Join(h.dir, pattern))
		noError(h.t, err)
		all = append(all, names...)
	}
	return append(all, h.spools()...)
}

// spools are the open files in the directory for temporary ones, which have no names there.
func (h *house) spools() (all []string) {
	h.t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	noError(h.t, err)
	for _, fd := range fds {
		if at, _ := os.Readlink(fd); strings.HasPrefix(at, h.temp) {
			all = append(all, at)
		}
	}
	return all
}

// fails sends a mail whose storing fails, and looks at what becomes of it in either mode.
func (h *house) fails(c *client, mode OnFailure, what, mail string) {
	h.t.Helper()
	h.hop.mu.Lock()
	h.hop.mails = nil
	h.hop.mu.Unlock()
	want := map[OnFailure]string{TempFail: "451 4.3.0 Temporary failure, please try again later\r\n", Deliver: "250 2.0.0 Ok: queued as 4X\r\n"}[mode]
	if got := c.data(mail, ""); got != want {
		h.t.Fatalf("%s: got %q, want %q", what, got, want)
	}
	got := h.hop.delivered()
	if mode == TempFail && len(got) > 0 {
		h.t.Errorf("%s: something was delivered", what)
	}
	if mode == Deliver && (len(got) != 1 || got[0] != mail) {
		h.t.Errorf("%s: the original was not delivered as it was", what)
	}
	if kept := h.kept(); len(kept) > 0 {
		h.t.Errorf("%s: what stays is %v", what, kept)
	}
	c.mail() // the session goes on
}

// Storing fails after every byte there is: of the first attachment, of the second, and after the
// last one. The mail is passed on as it was, or stays with its sender; nothing of it is kept.
func TestStoringFailsAtEveryByte(t *testing.T) {
	faults.Covers(t, 38, 43)
	one := attachmentMail(40)
	part := one[strings.Index(one, "\r\n--b\r\nContent-Type: application/pdf")+2 : strings.Index(one, "--b--")]
	mail := strings.Replace(one, "--b--", part+"--b--", 1) + "epilogue\r\n.\r\n..\r\n"
	for name, mode := range map[string]OnFailure{"tempfail": TempFail, "deliver": Deliver} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mode, nil)
			c := h.envelope()
			for h.failAt = 0; h.failAt < 80; h.failAt++ {
				h.fails(c, mode, fmt.Sprintf("after %d bytes", h.failAt), mail)
			}
			// And what does not fail is detached.
			h.failAt = -1
			c.data(mail, "250")
			if got := h.hop.delivered(); !strings.Contains(got[len(got)-1], "https://files.example/baf") {
				t.Errorf("not detached: %q", got)
			}
		})
	}
}

// The same with an attachment of several blocks. The spool that holds the original is there only if
// it may be needed, and is gone with the mail.
func TestStoringFailsInALargeOne(t *testing.T) {
	faults.Covers(t, 38, 43)
	const size = 3<<20 + 5
	mail := attachmentMail(size) + "..\r\n"
	for name, mode := range map[string]OnFailure{"tempfail": TempFail, "deliver": Deliver} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mode, func(h *house) { h.putFails = true })
			c := h.envelope()
			h.moment = func() {
				want := 0
				if mode == Deliver && h.failAt >= 1<<20-1 { // less stays in memory
					want = 1
				}
				if got := h.spools(); len(got) != want && runtime.GOOS == "linux" {
					t.Errorf("after %d bytes: spools %v, want %d", h.failAt, got, want)
				}
			}
			for _, h.failAt = range []int64{0, 1, 56, 57, 58, 4096, 65536, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2<<20 + 77, 3 << 20, size - 1, size} {
				h.fails(c, mode, fmt.Sprintf("after %d bytes", h.failAt), mail)
			}
			h.failAt = -1
			h.fails(c, mode, "at the pin", mail)
		})
	}
}

// The links are promised when the next hop has all of the mail but its end. It cannot be given
// another one then, so that failure is a 451 in either mode.
func TestPromiseFails(t *testing.T) {
	faults.Covers(t, 21)
	for name, mode := range map[string]OnFailure{"tempfail": TempFail, "deliver": Deliver} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mode, func(h *house) { h.commit = errors.New("ledger: no space left") })
			h.envelope().data(attachmentMail(3<<20), "451 4.3.0 Temporary failure")
			h.hop.await(t, "closed")
			if got := h.hop.delivered(); len(got) > 0 {
				t.Errorf("delivered %q", got)
			}
			if kept := h.kept(); len(kept) > 0 {
				t.Errorf("what stays is %v", kept)
			}
		})
	}
}

// The node's reason is for the administrator. The client is told that it may try again.
func TestReasonIsLoggedAndNotTold(t *testing.T) {
	faults.Covers(t, 43)
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"Message":"write /srv/ipfs/blocks/AA: no space left on device","Code":0,"Type":"error"}`)
	}))
	defer node.Close()
	for name, mode := range map[string]OnFailure{"tempfail": TempFail, "deliver": Deliver} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mode, func(h *house) { h.open = kuboAt(t, node.URL) })
			h.fails(h.envelope(), mode, "500", attachmentMail(3<<20))
			if log := h.log.String(); !strings.Contains(log, "no space left on device") || strings.Contains(log, "secret") {
				t.Errorf("the log does not have the reason, or has more:\n%s", log)
			}
		})
	}
}

// There is no node at all. Mail without attachments does not need one.
func TestNoNode(t *testing.T) {
	faults.Covers(t, 38)
	const nobody = "http://127.0.0.1:1" // tcpmux, which is nowhere
	for name, mode := range map[string]OnFailure{"tempfail": TempFail, "deliver": Deliver} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mode, func(h *house) { h.open = kuboAt(t, nobody) })
			c := h.envelope()
			h.fails(c, mode, "node down", attachmentMail(100))
			c.data(plainMail, "250")
		})
	}
}

func kuboAt(t *testing.T, url string) func(string) ipfs.Store {
	return func(string) ipfs.Store {
		store, err := kubo.New(kubo.Config{API: url})
		noError(t, err)
		return store
	}
}

// No random bytes, no key; and no mail with a link that would need one.
func TestNoRandomBytesIs451(t *testing.T) {
	faults.Covers(t, 75)
	kernel := rand.Reader
	defer func() { rand.Reader = kernel }()
	h := newHouse(t, TempFail, nil)
	c := h.envelope()
	rand.Reader = iotest.ErrReader(errors.New("no entropy"))
	h.fails(c, TempFail, "no random bytes", attachmentMail(100))
	rand.Reader = kernel
	c.data(attachmentMail(100), "250")
}
