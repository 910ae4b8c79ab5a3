package gateway

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

// ConnContext is for an http.Server. It has the kernel keep no more than a buffer of what a client has not been
// sent yet (tcp(7), TCP_NOTSENT_LOWAT). Otherwise megabytes would lie there, no write would go on until a third
// of them was gone, and a slow client could not be told from one who has stopped reading.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return ctx
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		// A kernel without it has the bounds of before.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bufferSize)
		})
	}
	return ctx
}
