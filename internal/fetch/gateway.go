package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

const (
	answerTimeout = time.Minute // for the first byte: the gateway may ask a distant store
	stallTimeout  = time.Minute // without a byte; a whole download may take as long as it needs
)

var errStalled = errors.New("nothing has arrived for a minute")

// gateway asks one gateway. The fragment of a link is never sent.
type gateway struct {
	base string
	http *http.Client
}

func newGateway(base string) *gateway {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerTimeout
	return &gateway{base, &http.Client{Transport: transport, CheckRedirect: checkRedirect}}
}

func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > 3 || via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return errors.New("the gateway redirects to an unsafe address")
	}
	return nil
}

func (g *gateway) close() { g.http.CloseIdleConnections() }

// open begins a download, which fails when it stalls. The caller closes it.
func (g *gateway) open(ctx context.Context, path, accept string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+path, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	r.Header.Set("Accept", accept)
	resp, err := g.http.Do(r)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("the gateway cannot be reached: %w", err)
	}
	timer := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	body := &download{resp.Body, ctx, cancel, timer}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(statusError(resp.StatusCode), body.Close())
	}
	return body, nil
}

// read returns a short text.
func (g *gateway) read(ctx context.Context, path string) ([]byte, error) {
	body, err := g.open(ctx, path, "*/*")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, crypto.MaxMeta+1))
	return bytes.TrimSpace(b), err
}

// statusError is the status of an answer other than 200.
type statusError int

const (
	errNotFound = statusError(http.StatusNotFound)
	errGone     = statusError(http.StatusGone)
)

// retryable reports whether the same request may be answered later.
func (s statusError) retryable() bool { return s >= 500 || s == http.StatusTooManyRequests }

func (s statusError) Error() string {
	switch s {
	case errNotFound:
		return "the file is not found at this gateway: is the link complete?"
	case errGone:
		return "the link no longer works: the file has expired or was withdrawn; ask the sender for it"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusTooManyRequests:
		return "the gateway cannot reach its storage, or is busy: try again later"
	}
	return fmt.Sprintf("the gateway answered %d %s", int(s), http.StatusText(int(s)))
}

// download is the body of an answer that is cancelled when it stalls.
type download struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (d *download) Read(p []byte) (int, error) {
	d.timer.Reset(stallTimeout)
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF && d.ctx.Err() != nil {
		err = context.Cause(d.ctx)
	}
	return n, err
}

func (d *download) Close() error {
	d.timer.Stop()
	d.cancel(nil)
	return d.ReadCloser.Close()
}
