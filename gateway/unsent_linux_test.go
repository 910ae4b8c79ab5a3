package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// For a client that does not read, the kernel takes little more than one buffer. So a write that
// waits for a slow client ends when the client has taken a buffer, and not megabytes.
func TestKernelHoldsOneUnsentBuffer(t *testing.T) {
	faults.Covers(t, 89)
	f := newFixture(t, 0)
	path := f.ticket(f.put("report.pdf", noise(10<<20)))
	handler, ended := f.handler(f.vault, Config{WriteTimeout: time.Second}), make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		handler.ServeHTTP(w, r)
	}))
	srv.Config.ConnContext = ConnContext
	srv.Start()
	defer srv.Close()
	// The Internet's segments are small; those of loopback are half of the client's buffer.
	const received = 64 << 10
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, received))
		})
		return errors.Join(err, controlErr)
	}}
	conn, err := dialer.Dial("tcp", srv.Listener.Addr().String())
	check(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s%s HTTP/1.0\r\n\r\n", prefix, path)
	<-ended // after WriteTimeout
	sent := regexp.MustCompile(`"gateway: client gone".*"bytes":(\d+)`).FindStringSubmatch(f.logs.String())
	if sent == nil {
		t.Fatal("the download did not end because the client does not read")
	}
	taken, err := strconv.Atoi(sent[1])
	check(t, err)
	if most := 2*received + 2*bufferSize; taken > most {
		t.Errorf("the kernel took %d bytes, want at most %d", taken, most)
	}
	t.Logf("the kernel took %d KiB", taken>>10)
}
