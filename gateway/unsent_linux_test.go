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

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// A slow client gets the whole file if it reads a buffer within WriteTimeout.
func TestSlowIsNotStalled(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, 0)
	content := noise(10 << 20)
	path := f.ticket(f.put("report.pdf", content))
	srv := httptest.NewUnstartedServer(f.handler(f.vault, Config{WriteTimeout: time.Second}))
	srv.Config.ConnContext = ConnContext
	srv.Start()
	defer srv.Close()
	// The Internet's segments are small; those of loopback are half of the client's buffer.
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400) })
		return errors.Join(err, controlErr)
	}}
	conn, err := dialer.Dial("tcp", srv.Listener.Addr().String())
	check(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
	var got bytes.Buffer
	const rate = 1 << 20 // a second: eight buffers within WriteTimeout
	for began := time.Now(); err == nil; {
		time.Sleep(50 * time.Millisecond)
		// The clock decides how much is due, since a busy machine sleeps longer.
		due := int64(time.Since(began).Seconds()*rate) - int64(got.Len())
		_, err = io.CopyN(&got, conn, due)
	}
	if !bytes.HasSuffix(got.Bytes(), content) {
		t.Errorf("%d bytes arrived of %d: %v", got.Len(), len(content), err)
	}
}
