package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

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

const typeCAR = "application/vnd.ipld.car"

// car starts to download an entry of an object as blocks, from the block that holds byte from. The
// directory comes first: it proves the path. The caller closes the body.
func (g *gateway) car(ctx context.Context, c cid.Cid, entry string, from int64) (io.ReadCloser, error) {
	path := fmt.Sprintf("/ipfs/%s/%s?format=car&dag-scope=entity&entity-bytes=%d:*", c, entry, from)
	body, err := g.open(ctx, path, typeCAR, "")
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(body.mediaType, typeCAR) { // a login page, or another web server's
		return nil, errors.Join(errNotDetach, body.Close())
	}
	return body, nil
}

// smallCAR downloads an entry of one small block, as car does.
func (g *gateway) smallCAR(ctx context.Context, c cid.Cid, entry string) (io.Reader, error) {
	body, err := g.car(ctx, c, entry, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxSmallCAR))
	return bytes.NewReader(b), err
}

// maxSmallCAR is more than a directory and the largest meta.jwe take together.
const maxSmallCAR = 2 * crypto.MaxMeta

// share downloads the gateway's half of an object's key, and the object's present end: zero for
// never. The proof shows that the client has the link, and does not tell the link.
func (g *gateway) share(ctx context.Context, c cid.Cid, p crypto.Proof) (crypto.Share, time.Time, error) {
	body, err := g.open(ctx, "/"+c.String()+"/share", "application/json", "Detach "+p.Encode())
	if err != nil {
		return crypto.Share{}, time.Time{}, err
	}
	defer body.Close()
	var answer struct {
		Share   string     `json:"share"`
		Expires *time.Time `json:"expires"`
	}
	b, err := io.ReadAll(io.LimitReader(body, maxShare))
	if err != nil {
		return crypto.Share{}, time.Time{}, err
	}
	if json.Unmarshal(b, &answer) != nil {
		return crypto.Share{}, time.Time{}, errNotDetach
	}
	share, err := crypto.ParseShare(answer.Share)
	if err != nil {
		return crypto.Share{}, time.Time{}, errNotDetach
	}
	var end time.Time
	if answer.Expires != nil {
		end = *answer.Expires
	}
	return share, end, nil
}

// maxShare is above the length of the answer with a share.
const maxShare = 4 << 10

var errNotDetach = errors.New("the answer does not come from Detach: is the link's address right?")

// open starts a download that fails when it stalls. The caller closes it. authorization may be "".
func (g *gateway) open(ctx context.Context, path, accept, authorization string) (*download, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+path, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	r.Header.Set("Accept", accept)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := g.http.Do(r)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("the gateway cannot be reached: %w", err)
	}
	timer := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	body := &download{resp.Body, resp.Header.Get("Content-Type"), ctx, cancel, timer}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(statusError(resp.StatusCode), body.Close())
	}
	return body, nil
}

// statusError is the status of an answer other than 200.
type statusError int

const (
	errWrongLink = statusError(http.StatusForbidden)
	errNotFound  = statusError(http.StatusNotFound)
	errGone      = statusError(http.StatusGone)
)

// retryable reports whether the same request may be answered later.
func (s statusError) retryable() bool { return s >= 500 || s == http.StatusTooManyRequests }

func (s statusError) Error() string {
	switch s {
	case errWrongLink:
		return "the link does not open this file: it was cut short or changed on its way; " +
			"copy all of it, to the last letter after #"
	case errNotFound:
		return "the file is not found at this gateway: is the link complete?"
	case errGone:
		return "the link no longer works: the file has expired or was withdrawn; ask the sender for it"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return "the gateway cannot reach its storage, or is busy: try again later"
	}
	return fmt.Sprintf("the gateway answered %d %s", int(s), http.StatusText(int(s)))
}

// download is the body of an answer that is cancelled when it stalls.
type download struct {
	io.ReadCloser
	mediaType string
	ctx       context.Context
	cancel    context.CancelCauseFunc
	timer     *time.Timer
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
