package gateway

import (
	"context"
	"net/http"
)

const (
	// listsAtOnce is how many file lists are unpacked together: each takes a few MiB for some
	// milliseconds, however small the part of the answer that the client wants.
	listsAtOnce = 4
	// freeKept is what each request may keep without taking it from the budget. It is enough for
	// the lists of most mails and the CARs of files below 200 MiB.
	freeKept = 48 << 10
)

// readList calls read when a slot is free. read must not wait for the client.
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
// release when the request ends. keep returns errBusy if slow clients already keep too much. It
// counts nothing for a HEAD, which has no body for which a client could be slow.
func (w *response) keep(r *http.Request, n int64) (release func(), err error) {
	if n -= freeKept; n <= 0 || r.Method == http.MethodHead {
		return func() {}, nil
	}
	if !w.cfg.Memory.Claim(n) {
		return nil, errBusy
	}
	return func() { w.cfg.Memory.Release(n) }, nil
}
