package kubo

import (
	"context"
	"net"
)

// DialWith makes the store use dial for its connections.
func (s *Store) DialWith(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	s.http.base.DialContext = dial
}

// The timeouts and bounds of production.
const (
	DefaultIdle = defaultIdle
	DialTimeout = dialTimeout
	UndoTimeout = undoTimeout
	MaxAnswer   = maxAnswer
)
