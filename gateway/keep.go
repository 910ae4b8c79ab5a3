package gateway

import (
	"context"
	"net/http"
)

const (
	// listsAtOnce is how many file lists are unpacked together: each takes a few MiB for some
	// milliseconds, however small the part of the answer that the client wants.
	listsAtOnce = 4
	// keptFree is what each request may keep without asking: the lists of most mails fit, and the
	// CARs of files below 200 MiB.
	keptFree = 48 << 10
)

// readList calls read when there is a place for it. read must not wait for the client.
func (g *gateway) readList(ctx context.Context, read func() error) error {
	select {
	case g.lists <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-g.lists }()
	return read()
}

// keep counts n bytes that the request needs for as long as its client reads. The caller calls
// release at its end. keep returns errBusy if slow clients already keep too much. A request without
// an answer's body waits for no client.
func (w *response) keep(r *http.Request, n int64) (release func(), err error) {
	if n -= keptFree; n <= 0 || r.Method == http.MethodHead {
		return func() {}, nil
	}
	if !w.cfg.Memory.Claim(n) {
		return nil, errBusy
	}
	return func() { w.cfg.Memory.Release(n) }, nil
}
