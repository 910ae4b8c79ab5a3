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

// LeavesInUse counts the leaves that have memory, of MaxLeaves, and those that are parked.
func LeavesInUse() (inMemory, parked int) {
	parking.mu.Lock()
	defer parking.mu.Unlock()
	return len(leafRoom), parking.used
}

// How many leaves may have memory at once, and how many of them for as long as they are read.
const (
	MaxLeaves = maxLeaves
	MaxKept   = maxKept
)
