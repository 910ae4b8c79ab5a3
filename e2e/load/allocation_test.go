package load

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/test/installation"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/proxy"
)

const (
	// maxAllocs and maxAllocated are for each megabyte that streams: a block of 1 MiB has a CID,
	// which is a few small objects.
	maxAllocs    = 10
	maxAllocated = 1 << 10
)

// A large mail allocates no more than a small one, on the whole way from the client's socket into
// the store or to the next hop. All of it runs in this process.
func TestLargeMailsAllocateNoMore(t *testing.T) {
	const small, large = 4 << 20, 36 << 20
	for name, wire := range map[string]func(size int) []byte{"attachment into the embedded store": attachmentWire, "mail that passes": passingWire} {
		t.Run(name, func(t *testing.T) {
			way := startWay(t)
			less, more := wire(small), wire(large)
			way.send(t, more) // pools are filled
			lessAllocs, lessBytes := way.cost(t, less)
			moreAllocs, moreBytes := way.cost(t, more)
			megabytes := float64(len(more)-len(less)) / 1e6
			allocs, allocated := (moreAllocs-lessAllocs)/megabytes, (moreBytes-lessBytes)/megabytes
			t.Logf("%.1f allocations and %.0f bytes for each MB; a mail of %d MB: %.0f and %.0f KB in all", allocs, allocated, len(less)/1e6, lessAllocs, lessBytes/1e3)
			if allocs > maxAllocs || allocated > maxAllocated {
				t.Errorf("%.1f allocations and %.0f bytes for each MB, want at most %d and %d", allocs, allocated, maxAllocs, maxAllocated)
			}
		})
	}
}

// way is a connection through a proxy in this process to a next hop that discards all mail.
type way struct {
	net.Conn
	reply []byte
}

func startWay(t *testing.T) *way {
	t.Helper()
	hop, front := listenLocal(t), listenLocal(t)
	go throwAway(hop)
	dir := t.TempDir()
	keys, err := keyring.Open(filepath.Join(dir, "keys"))
	stage.Must(t, err)
	store, err := embedded.Open(filepath.Join(dir, "objects"), nil)
	stage.Must(t, err)
	v, _ := installation.Open(t, dir, vault.Config{BaseURL: "https://files.example"}, store, keys, nil)
	server := proxy.New(proxy.Config{NextHop: hop.Addr().String(), Mail: transaction.Config{
		Policy: func(transaction.Envelope) rewrite.Policy { return rewrite.Policy{MinSize: 64 << 10, Restore: true} },
		Begin:  func() transaction.Batch { return v.Begin(0) },
	}}, slog.New(slog.DiscardHandler))
	go server.Serve(front)
	conn, err := net.Dial("tcp", front.Addr().String())
	stage.Must(t, err)
	t.Cleanup(func() {
		conn.Close()
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		stage.Must(t, store.Close())
	})
	w := &way{conn, make([]byte, 1000)}
	w.want(t, '2')
	return w
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	stage.Must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// throwAway answers as a mail server does and discards the mail, without allocating.
func throwAway(l net.Listener) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "220 x\r\n")
	buf, dot := make([]byte, 64<<10), []byte("\r\n.\r\n")
	tail := 0 // how many bytes at the start of buf came with earlier reads
	for inData := false; ; {
		n, err := c.Read(buf[tail:])
		if err != nil {
			return
		}
		got := buf[:tail+n]
		switch {
		case inData && !bytes.HasSuffix(got, dot):
			tail = copy(buf, got[max(0, len(got)-len(dot)):])
			continue
		case bytes.Equal(got, []byte("DATA\r\n")):
			inData = true
			io.WriteString(c, "354 x\r\n")
		default:
			inData = false
			io.WriteString(c, "250 x\r\n")
		}
		tail = 0
	}
}

func (w *way) send(t *testing.T, wire []byte) {
	t.Helper()
	for _, line := range []string{"MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n"} {
		io.WriteString(w, line)
		w.want(t, '2')
	}
	io.WriteString(w, "DATA\r\n")
	w.want(t, '3')
	w.Write(wire)
	w.want(t, '2')
}

func (w *way) want(t *testing.T, class byte) {
	t.Helper()
	if n, err := w.Read(w.reply); err != nil || w.reply[0] != class {
		t.Fatalf("got %q, %v, want a reply %c", w.reply[:n], err, class)
	}
}

// cost returns the allocations of one mail: the least of five, since other goroutines allocate too.
func (w *way) cost(t *testing.T, wire []byte) (allocs, allocated float64) {
	t.Helper()
	for i := range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w.send(t, wire)
		runtime.ReadMemStats(&after)
		a, b := float64(after.Mallocs-before.Mallocs), float64(after.TotalAlloc-before.TotalAlloc)
		if i == 0 || b < allocated {
			allocs, allocated = a, b
		}
	}
	return allocs, allocated
}

func attachmentWire(size int) []byte {
	var wire bytes.Buffer
	wire.WriteString("Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n" +
		"--b\r\nContent-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	wire.WriteString(stage.Base64Lines(stage.Noise(7, size)))
	wire.WriteString("--b--\r\n.\r\n")
	return wire.Bytes()
}

func passingWire(size int) []byte {
	line := strings.Repeat("x", 76) + "\r\n"
	return []byte("Subject: x\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\n")
}
