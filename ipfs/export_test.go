package ipfs

import (
	"context"
	"net"
)

// DialWith has the requests to a node go over connections that dial makes.
func (k *Kubo) DialWith(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	k.http.base.DialContext = dial
}

// What the timeouts are when nobody changes them.
const (
	DefaultIdle = defaultIdle
	DialTimeout = dialTimeout
	UndoTimeout = undoTimeout
	MaxAnswer   = maxAnswer
)
