package gateway

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

// ConnContext is for an http.Server. It makes the kernel hold at most one unsent buffer (tcp(7),
// TCP_NOTSENT_LOWAT). With megabytes, a write would block until a third of them was sent, and a
// slow client would look like one that has stopped reading.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return ctx
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		// Best effort: a kernel that refuses the option keeps its own bounds.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bufferSize)
		})
	}
	return ctx
}
