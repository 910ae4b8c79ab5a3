package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/nkirchhoffer/detach-mta/gateway/viewer"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/internal/zipstream"
)

var (
	errNothing = errors.New("no such address")
	errMethod  = errors.New("method not allowed")
	errProof   = errors.New("no proof of the link")
	errTooLong = errors.New("form too long")
	errFormat  = errors.New("no such format")
	errTooMany = errors.New("too many requests")
	errBusy    = errors.New("too many requests, or too slow ones, of all clients together")
	errAllGone = errors.New("all files of the file list are gone")
)

// failure is the answer to an error.
type failure struct {
	err    error
	status int
	key    string // of the title and the text
	field  bool   // the page offers to paste the link
	fault  bool   // the operator's to repair: the cause is logged
}

// failures is searched in order. An error that is not in it is an internal fault.
var failures = []failure{
	{err: errNothing, status: http.StatusNotFound, key: "nothing", field: true},
	{err: viewer.ErrNoFile, status: http.StatusNotFound, key: "nothing", field: true},
	{err: errMethod, status: http.StatusMethodNotAllowed, key: "method"},
	{err: errProof, status: http.StatusUnauthorized, key: "proof"},
	{err: errTooLong, status: http.StatusRequestEntityTooLarge, key: "toolong", field: true},
	{err: errRange, status: http.StatusRequestedRangeNotSatisfiable, key: "range"},
	{err: errTooMany, status: http.StatusTooManyRequests, key: "toomany"},
	{err: errBusy, status: http.StatusServiceUnavailable, key: "unavailable", fault: true},
	{err: vault.ErrBusy, status: http.StatusServiceUnavailable, key: "unavailable"}, // strangers ask for unknown CIDs
	{err: errFormat, status: http.StatusNotAcceptable, key: "format"},
	{err: viewer.ErrKind, status: http.StatusUnsupportedMediaType, key: "noview"},
	{err: link.ErrReplaced, status: http.StatusBadRequest, key: "replaced", field: true},
	{err: link.ErrIncomplete, status: http.StatusBadRequest, key: "incomplete", field: true},
	{err: link.ErrInvalid, status: http.StatusBadRequest, key: "incomplete", field: true},
	{err: errAllGone, status: http.StatusGone, key: "allgone"},
	{err: vault.ErrTicket, status: http.StatusGone, key: "ticket", field: true},
	{err: vault.ErrWrongKey, status: http.StatusForbidden, key: "wrong", field: true},
	{err: vault.ErrExpired, status: http.StatusGone, key: "expired"},
	{err: vault.ErrRevoked, status: http.StatusGone, key: "revoked"},
	{err: vault.ErrNotFound, status: http.StatusNotFound, key: "missing", field: true},
	{err: vault.ErrCorrupt, status: http.StatusInternalServerError, key: "damaged", fault: true},
	{err: skeleton.ErrInvalid, status: http.StatusInternalServerError, key: "damaged", fault: true},
	{err: filelist.ErrInvalid, status: http.StatusInternalServerError, key: "damaged", fault: true},
	{err: zipstream.ErrEntry, status: http.StatusInternalServerError, key: "damaged", fault: true},
	{err: vault.ErrKeyMissing, status: http.StatusServiceUnavailable, key: "unavailable", fault: true},
	{err: vault.ErrUnavailable, status: http.StatusServiceUnavailable, key: "unavailable", fault: true},
}

// retryAfter is in seconds: enough for a store to restart.
const retryAfter = "60"

func classify(err error) failure {
	for _, f := range failures {
		if errors.Is(err, f.err) {
			return f
		}
	}
	return failure{status: http.StatusInternalServerError, key: "internal", fault: true}
}

// fail answers every error. The client gets a fixed sentence; the cause is logged once.
func (g *gateway) fail(w *response, r *http.Request, err error) {
	if errors.Is(err, errClient) || errors.Is(err, context.Canceled) {
		g.logRequest(w, r, slog.LevelInfo, "client gone", nil)
		panic(http.ErrAbortHandler)
	}
	f := classify(err)
	if w.status != 0 {
		// Part of the answer is sent. The client must notice that the rest is missing.
		level := slog.LevelInfo // for example of a file that was revoked meanwhile
		if f.fault {
			level = slog.LevelError
		}
		g.logRequest(w, r, level, "answer broken off", err)
		panic(http.ErrAbortHandler)
	}
	g.writeFailure(w, r, f)
	if f.fault {
		g.logRequest(w, r, slog.LevelError, f.key, err)
		return
	}
	g.logRequest(w, r, slog.LevelInfo, f.key, nil)
}

func (g *gateway) writeFailure(w *response, r *http.Request, f failure) {
	size := w.Header().Get("Content-Range")
	for _, name := range describesBody {
		w.Header().Del(name)
	}
	if f.status == http.StatusRequestedRangeNotSatisfiable {
		w.Header().Set("Content-Range", size)
		w.machine = true // only programs ask for ranges
	}
	if f.status == http.StatusServiceUnavailable || f.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	if w.machine {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(f.status)
		_, _ = w.Write([]byte(preferred(r).Text("error."+f.key+".title") + "\n"))
		return
	}
	m := message{Key: "error." + f.key, Field: f.field, Path: g.site.prefix + "/"}
	if w.cid.Defined() {
		m.Path = g.site.page(w.cid, false)
	}
	_ = g.pages.message(w, r, f.status, m) // fails only if the client is gone
}

// logRequest writes the one log line of a request. It logs no part of the path but a CID that was
// parsed, since a path may have a fragment, a ticket or a name in it. A line with neither CID nor
// err is for debugging.
func (g *gateway) logRequest(w *response, r *http.Request, level slog.Level, what string, err error) {
	attrs := []slog.Attr{slog.String("request", w.route)}
	if w.cid.Defined() {
		attrs = append(attrs, slog.String("cid", w.cid.String()))
	} else if err == nil {
		level = slog.LevelDebug
	}
	attrs = append(attrs, slog.String("method", method(r)), slog.Int("status", w.status),
		slog.Int64("bytes", w.sent), slog.Duration("took", time.Since(w.begun)))
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	g.log.LogAttrs(r.Context(), level, "gateway: "+what, attrs...)
}

// method returns the request's method for the log, or "other" if no route has it.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return r.Method
	}
	return "other"
}
