package kubo

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

var (
	errStalled = errors.New("the node makes no progress")
	errNotRPC  = errors.New("not a kubo RPC")
	errTooLong = errors.New("the node's answer is too long")
)

// transport carries every request to a node. It ignores the environment's proxies, refuses
// redirects, and bounds the size of answers except listings.
type transport struct {
	base  *http.Transport
	token *token // nil: none
}

// dialer returns the base URL of requests to an API address, and their transport.
func dialer(api string) (string, *transport, error) {
	base := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConnsPerHost:    maxReads,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		DisableCompression:     true,
	}
	t := &transport{base: base}
	if !strings.HasPrefix(api, "/") {
		u, err := url.Parse(api)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery+u.Fragment != "" {
			return "", nil, errors.New("kubo API: want /ip4/HOST/tcp/PORT, /unix/PATH or http(s)://HOST:PORT")
		}
		if u.User != nil {
			return "", nil, errors.New("kubo API: a password does not belong in the address; give it as the token basic:user:pass")
		}
		return strings.TrimSuffix(api, "/"), t, nil
	}
	addr, err := ma.NewMultiaddr(api)
	if err != nil {
		return "", nil, fmt.Errorf("kubo API: %w", err)
	}
	network, host, err := manet.DialArgs(addr)
	if err != nil {
		return "", nil, fmt.Errorf("kubo API: %w", err)
	}
	if network == "unix" {
		base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, host)
		}
		return "http://kubo", t, nil
	}
	if !strings.HasPrefix(network, "tcp") {
		return "", nil, fmt.Errorf("kubo API: %s is not the address of a TCP port or a unix socket", addr)
	}
	for _, p := range addr.Protocols() {
		if p.Code == ma.P_HTTPS || p.Code == ma.P_TLS {
			return "https://" + host, t, nil
		}
	}
	return "http://" + host, t, nil
}

// RoundTrip refuses answers that a node never gives, redirects among them: http.Client would follow
// a redirect and send the token there.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(t.authorized(req))
	if err != nil {
		return nil, err
	}
	if req.Context().Value(unboundedKey{}) == nil || resp.StatusCode != http.StatusOK {
		resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode/100 == 2 && kind != "" && kind != "text/html":
		return resp, nil
	case resp.StatusCode >= 400 && (kind == "application/json" || kind == "text/plain"):
		err = refusal(resp, kind)
	case resp.StatusCode == http.StatusBadRequest && req.URL.Scheme == "http":
		// QUIRK: to plain HTTP on a port for TLS, nginx answers with a page, and Go without a type.
		err = fmt.Errorf("%w: the server answers 400 with %q: does it want https://?", errNotRPC, clip(kind))
	default:
		err = fmt.Errorf("%w: the server answers %d with %q", errNotRPC, resp.StatusCode, clip(kind))
	}
	resp.Body.Close()
	return nil, err
}

// refusal returns a node's reason for an error status. Kubo's library would read the reason too,
// but print a malformed one to standard error.
func refusal(resp *http.Response, kind string) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	var answer struct{ Message string }
	if kind == "application/json" && json.Unmarshal(text, &answer) == nil {
		text = []byte(answer.Message)
	}
	return &refusedError{resp.StatusCode, clip(strings.TrimSpace(string(text)))}
}

// refusedError is a node's answer with an error status.
type refusedError struct {
	status int
	reason string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the node answers %d: %q", e.status, e.reason)
}

// maxReason bounds the part of a node's answer that goes into an error, and with it into a log.
const maxReason = 500

func clip(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason] + "…"
	}
	return s
}

// fail classifies an error: the end of the caller's ctx, or ErrUnavailable. watched is the context
// that the watch ends.
func fail(ctx, watched context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("kubo %s: %w", what, context.Cause(ctx))
	}
	if cause := context.Cause(watched); cause == errStalled {
		err = cause
	}
	// A url.Error repeats the whole address with its arguments.
	if ue := new(url.Error); errors.As(err, &ue) {
		err = ue.Err
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		err = fmt.Errorf("%w: if the CA is your own, name the file of its certificate in the environment, SSL_CERT_FILE", err)
	}
	if text := err.Error(); len(text) > 2*maxReason {
		err = errors.New(clip(text))
	}
	return ipfs.Unavailable("kubo "+what, err)
}

// unbounded returns a context for a request whose answer may be long. The caller bounds each line.
func unbounded(ctx context.Context) context.Context {
	return context.WithValue(ctx, unboundedKey{}, true)
}

type unboundedKey struct{}

// bounded is an answer's body that fails after left bytes.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// watch ends a context when a node makes no progress for the idle time. A new watch is armed.
type watch struct {
	timer  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
}

func (s *Store) watch(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{idle: s.idle, cancel: cancel}
	w.timer = time.AfterFunc(s.idle, func() { cancel(errStalled) })
	return ctx, w
}

func (w *watch) arm()    { w.timer.Reset(w.idle) }
func (w *watch) disarm() { w.timer.Stop() }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
