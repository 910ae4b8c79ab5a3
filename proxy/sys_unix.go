//go:build unix

package proxy

import (
	"net"
	"syscall"
	"time"
)

// hasUnread reports, without waiting, whether the peer has sent unread bytes, or has left.
func hasUnread(c net.Conn) bool {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	c.SetReadDeadline(time.Time{}) // Read would fail if a deadline had passed
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, peeked = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		return true
	})
	return err == nil && peeked != syscall.EAGAIN && peeked != syscall.EINTR
}
