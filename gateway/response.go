package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
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
// stretch of eight: half as long for each on average. So no answer keeps its slot for long.
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

// oneRange returns the Range header of a request in the form that http.ServeContent understands, or
// "" if the header is to be ignored (RFC 9110 section 14.2): with other methods than GET, with
// another unit, if it is malformed, if the content is empty, and if it has several ranges, since
// each range of a byte would cost a block.
func oneRange(r *http.Request, size int64) string {
	header := r.Header["Range"]
	if len(header) != 1 || r.Method != http.MethodGet || size == 0 {
		return ""
	}
	unit, set, _ := strings.Cut(header[0], "=")
	if !strings.EqualFold(unit, "bytes") {
		return ""
	}
	m := rangeSet.FindStringSubmatch(set)
	if m == nil {
		return ""
	}
	first, last := position(m[1]), position(m[2])
	switch {
	case m[1] == "" && m[2] == "", m[1] != "" && m[2] != "" && last < first:
		return ""
	case m[1] == "" && last == 0:
		first = size // the last 0 bytes are as unsatisfiable as those beyond the end (14.1.2)
	case m[1] == "":
		return fmt.Sprintf("bytes=-%d", last)
	}
	if m[2] == "" || last < first {
		return fmt.Sprintf("bytes=%d-", first)
	}
	return fmt.Sprintf("bytes=%d-%d", first, last)
}

// rangeSet matches a set of one range (RFC 9110 section 14.1.1). A list may have empty elements
// (section 5.6.1).
var rangeSet = regexp.MustCompile(`^[ \t,]*([0-9]*)-([0-9]*)[ \t,]*$`)

// position parses digits. It returns the largest number for a larger one, and 0 for "".
func position(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt64
	}
	return n
}

// errRange means that the client asked for bytes beyond the end.
var errRange = errors.New("range not satisfiable")

// stream answers with content of a known size. http.ServeContent does ranges, conditions and HEAD.
func (w *response) stream(r *http.Request, content io.ReadSeeker, size int64) error {
	if one := oneRange(r, size); one != "" {
		r.Header.Set("Range", one)
	} else {
		r.Header.Del("Range")
	}
	b := &body{response: w, ctx: r.Context(), content: content, size: size}
	http.ServeContent(b, r, "", time.Time{}, b)
	return b.finish()
}

// body adds three things to http.ServeContent. It keeps the status back until the store has given
// the first bytes, so that an unreachable store causes a 503 instead of a 200 that breaks off. It
// also keeps a later error, which http.ServeContent drops. And it leaves a range beyond the end to
// the gateway's own answer, except for the Content-Range.
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
	if status == http.StatusRequestedRangeNotSatisfiable {
		b.err = errRange
		return
	}
	b.response.WriteHeader(status)
}

func (b *body) Write(p []byte) (int, error) {
	if b.err != nil {
		return len(p), nil // the text of http.ServeContent's error
	}
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
