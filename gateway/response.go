package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/readahead"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// bufferSize is the size of a write. Every write has its own deadline.
const bufferSize = readahead.BufferSize

var (
	errStalled = fmt.Errorf("no answer within the time allowed: %w", vault.ErrUnavailable)
	// errClient means that the connection to the client broke, or that the client was too slow.
	errClient = errors.New("client gone")
)

// response is the ResponseWriter of one request.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	cfg     Config
	stall   *time.Timer // ends the request's context when the store takes too long
	begun   time.Time

	route   string  // for the log: the kind of request, never its path
	machine bool    // a program reads the answer, so an error is a line, not a page
	keyed   bool    // the address may have a key in it, so no cache may keep the answer
	cid     cid.Cid // for the log and the error page's form; undefined until one was parsed
	status  int     // 0 until the header is sent
	sent    int64
	waited  time.Duration // for the client, since sent passed the last multiple of stretch
}

func newResponse(w http.ResponseWriter, cfg Config, cancel context.CancelCauseFunc) *response {
	secure(w.Header())
	resp := &response{
		ResponseWriter: w,
		control:        http.NewResponseController(w),
		cfg:            cfg,
		stall:          time.AfterFunc(cfg.StoreTimeout, func() { cancel(errStalled) }),
		begun:          time.Now(),
		route:          "other",
	}
	// The server's ReadTimeout would end a long download, and so would the write deadline of the
	// connection's last request. Writers without deadlines (in tests) return an error: ignored.
	_ = resp.control.SetReadDeadline(time.Time{})
	resp.extend()
	return resp
}

func (w *response) release() { w.stall.Stop() }

// storeClock starts the store's time for its next answer.
func (w *response) storeClock() { w.stall.Reset(w.cfg.StoreTimeout) }

// A client may take WriteTimeout for one buffer, but only stretchTimeouts times as long for a
// stretch of eight: half as long for each on average. So no answer keeps a block, and its slot, for
// long.
const (
	stretch         = 1 << 20 // a block of a file
	stretchTimeouts = 4
)

// extend starts the client's time for the next buffer.
func (w *response) extend() {
	rest := stretchTimeouts*w.cfg.WriteTimeout - w.waited
	_ = w.control.SetWriteDeadline(time.Now().Add(min(w.cfg.WriteTimeout, rest)))
}

// took counts a write that has ended.
func (w *response) took(n int, since time.Time) {
	before := w.sent / stretch
	w.sent += int64(n)
	w.waited += time.Since(since)
	if w.sent/stretch > before {
		w.waited = 0
	}
}

func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	cacheable := strings.HasPrefix(w.Header().Get("Cache-Control"), "public")
	if w.keyed && cacheable || status >= 400 { // http.ServeContent drops Cache-Control on its errors
		w.Header().Set("Cache-Control", noStore)
	}
	if status >= 400 {
		w.Header().Del("Content-Disposition") // it has the file's name
		if status == http.StatusPreconditionFailed {
			w.Header().Del("Content-Type") // it has no body
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.extend()
	since := time.Now()
	n, err := w.ResponseWriter.Write(p)
	w.took(n, since)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errClient, err)
	}
	return n, nil
}

// refuseBody ends the connection after the answer if a body is on its way: the server would wait
// for it.
func (w *response) refuseBody(r *http.Request) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		_ = w.control.SetReadDeadline(time.Now())
	}
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// oneRange returns a Range header that http.ServeContent understands, or "" if the header is to be
// ignored (RFC 9110 section 14.2). It ignores units other than bytes, and several ranges, since
// each range of a byte would cost a block.
func oneRange(header []string, size int64) string {
	if len(header) != 1 {
		return ""
	}
	unit, ranges, found := strings.Cut(header[0], "=")
	if !found || !strings.EqualFold(unit, "bytes") || strings.Contains(ranges, ",") {
		return ""
	}
	if last, ok := strings.CutPrefix(strings.TrimSpace(ranges), "-"); ok && last != "" && strings.Trim(last, "0") == "" {
		// The last 0 bytes are unsatisfiable (RFC 9110 section 14.1.2), as are all beyond the end.
		return fmt.Sprintf("bytes=%d-", size)
	}
	return "bytes=" + ranges
}

// stream answers with content of a known size. http.ServeContent does ranges, conditions and HEAD.
func (w *response) stream(r *http.Request, content io.ReadSeeker, size int64) error {
	if one := oneRange(r.Header["Range"], size); one != "" {
		r.Header.Set("Range", one)
	} else {
		r.Header.Del("Range")
	}
	b := &body{response: w, ctx: r.Context(), content: content, size: size}
	http.ServeContent(b, r, "", time.Time{}, b)
	return b.finish()
}

// body adds two things to http.ServeContent. It keeps the status back until the store has given the
// first bytes, so that an unreachable store causes a 503 instead of a 200 that breaks off. It also
// keeps a later error, which http.ServeContent drops.
type body struct {
	*response
	ctx     context.Context
	content io.ReadSeeker
	size    int64
	offset  int64
	moved   bool // content must seek to offset before it is read
	held    int  // the status kept back
	err     error
}

// Seek only remembers the offset; Read moves content.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset += b.size
	}
	b.offset, b.moved = offset, true
	return offset, nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.offset >= b.size {
		return 0, io.EOF
	}
	if b.moved {
		if _, err := b.content.Seek(b.offset, io.SeekStart); err != nil {
			return 0, err
		}
		b.moved = false
	}
	n, err := b.content.Read(p[:min(int64(len(p)), b.size-b.offset)])
	b.offset += int64(n)
	if err == io.EOF {
		if err = nil; b.offset < b.size {
			err = io.ErrUnexpectedEOF // a short file must not look whole
		}
	}
	return n, err
}

func (b *body) WriteHeader(status int) {
	if status == http.StatusOK || status == http.StatusPartialContent {
		b.held = status
		return
	}
	b.response.WriteHeader(status)
}

func (b *body) Write(p []byte) (int, error) {
	if b.held != 0 {
		b.response.WriteHeader(b.held)
	}
	return b.response.Write(p)
}

// ReadFrom is called once, by http.ServeContent's io.CopyN, with a reader limited to the range. The
// next bytes are read, verified and decrypted while earlier bytes are sent.
func (b *body) ReadFrom(src io.Reader) (n int64, err error) {
	defer func() { b.err = err }()
	source := readahead.NewReader(src, b.cfg.Memory)
	defer source.Close()
	for {
		if err := b.ctx.Err(); err != nil {
			return n, err
		}
		got, readErr := b.waitFor(source)
		if len(got) > 0 {
			sent, err := b.Write(got)
			n += int64(sent)
			if err != nil {
				return n, err
			}
		}
		if readErr == io.EOF {
			return n, nil
		}
		if readErr != nil {
			return n, readErr
		}
	}
}

// waitFor runs the store's clock while it reads from the store.
func (b *body) waitFor(source *readahead.Reader) ([]byte, error) {
	b.storeClock()
	defer b.stall.Stop()
	return source.Next()
}

func (b *body) finish() error {
	if b.err == nil && b.held != 0 {
		b.response.WriteHeader(b.held) // no byte was sent: HEAD, or an empty file
	}
	return b.err
}
