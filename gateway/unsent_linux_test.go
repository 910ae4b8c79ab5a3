package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// A client that takes what a buffer's time allows is slow, and not stalled, however much the kernel
// would have kept for it.
func TestSlowIsNotStalled(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, options{})
	content := noise(12 << 20)
	path := f.ticket(f.put("report.pdf", content))
	srv := httptest.NewUnstartedServer(f.handler(f.vault, Config{WriteTimeout: 500 * time.Millisecond}))
	srv.Config.ConnContext = ConnContext
	srv.Start()
	defer srv.Close()
	// With the segments of the Internet: those of loopback are half of what the client has room
	// for.
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400) })
		return errors.Join(err, controlErr)
	}}
	conn, err := dialer.Dial("tcp", srv.Listener.Addr().String())
	check(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
	var got bytes.Buffer
	for err == nil { // at 1.3 MB/s: five buffers in the time for one
		time.Sleep(50 * time.Millisecond)
		_, err = io.CopyN(&got, conn, 64<<10)
	}
	if !bytes.HasSuffix(got.Bytes(), content) {
		t.Errorf("%d bytes arrived of %d: %v", got.Len(), len(content), err)
	}
}
