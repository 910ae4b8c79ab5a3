package gateway

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// maxIdle is how many connections may be open without a request. Each takes about 10 KiB, and a
// client that finds its connection closed opens another.
const maxIdle = 1024

// ConnState returns a function for an http.Server. While more than maxIdle connections have no
// request, it closes the one that has been without a request for longest.
func ConnState() func(net.Conn, http.ConnState) {
	idle := idleConns{oldest: list.New(), at: make(map[net.Conn]*list.Element)}
	return func(c net.Conn, s http.ConnState) {
		if surplus := idle.note(c, s == http.StateNew || s == http.StateIdle); surplus != nil {
			_ = surplus.Close()
		}
	}
}

type idleConns struct {
	mu     sync.Mutex
	oldest *list.List // of net.Conn, the oldest first
	at     map[net.Conn]*list.Element
}

// note takes the state of a connection, and returns the connection to close, or nil.
func (i *idleConns) note(c net.Conn, idle bool) (surplus net.Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forget(c)
	if !idle {
		return nil
	}
	i.at[c] = i.oldest.PushBack(c)
	if i.oldest.Len() <= maxIdle {
		return nil
	}
	surplus = i.oldest.Front().Value.(net.Conn)
	i.forget(surplus)
	return surplus
}

func (i *idleConns) forget(c net.Conn) {
	if e := i.at[c]; e != nil {
		i.oldest.Remove(e)
		delete(i.at, c)
	}
}
