package main

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
	answerTimeout = time.Minute // until a gateway that asks a distant store begins to answer
	stallTimeout  = time.Minute // without a byte; a whole download may take as long as it needs
)

var errStalled = errors.New("nothing has arrived for a minute")

// gatewayClient asks one gateway. The fragment of the link is never sent.
type gatewayClient struct {
	base string
	http *http.Client
}

func newGatewayClient(base string) *gatewayClient {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerTimeout
	return &gatewayClient{base, &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > 3 || via[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return errors.New("the gateway redirects to an unsafe address")
		}
		return nil
	}}}
}

func (g *gatewayClient) close() { g.http.CloseIdleConnections() }

// open begins a download, which ends when it stalls. The caller closes it.
func (g *gatewayClient) open(ctx context.Context, path, accept string) (io.ReadCloser, error) {
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
	body := &download{resp.Body, ctx, cancel, time.AfterFunc(stallTimeout, func() { cancel(errStalled) })}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(badStatus(resp.StatusCode), body.Close())
	}
	return body, nil
}

// read gets something small.
func (g *gatewayClient) read(ctx context.Context, path string) ([]byte, error) {
	body, err := g.open(ctx, path, "*/*")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, crypto.MaxMeta+1))
	return bytes.TrimSpace(b), err
}

// badStatus is an answer other than 200, by its status.
type badStatus int

// passing tells whether the same request may be answered later.
func (r badStatus) passing() bool { return r >= 500 || r == http.StatusTooManyRequests }

func (r badStatus) Error() string {
	switch r {
	case http.StatusNotFound:
		return "the file is not found at this gateway: is the link complete?"
	case http.StatusGone:
		return "the link no longer works: the file has expired or was withdrawn; ask the sender for it"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return "the gateway cannot reach its storage, or is busy: try again later"
	}
	return fmt.Sprintf("the gateway answered %d %s", int(r), http.StatusText(int(r)))
}

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
