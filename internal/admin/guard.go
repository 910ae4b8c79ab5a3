package admin

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	profiles = "/debug/pprof/"
	// maxSeconds bounds how long a profile or a trace may take.
	maxSeconds = 60
	// rememberTime is how long an answer of /readyz is given again. A new answer writes to the
	// store, and opens a connection to each next hop.
	rememberTime = time.Second
	// askTimeout bounds the time for a new answer, which does not end with its client.
	askTimeout = 30 * time.Second
)

// Guard protects the administrator's addresses from other programs on the machine. listen is the
// configured address.
//
//   - A page in the administrator's browser gets no answer: the Host must be an IP address, a name
//     without a dot, or the host in listen. A stranger's DNS cannot lead these here (DNS rebinding).
//   - One profile is made at a time, for a minute at most.
//   - However often /readyz is requested, next answers it at most once a second.
func Guard(next http.Handler, listen string) http.Handler {
	host, _, _ := net.SplitHostPort(listen)
	ready := &remembered{next: next, turn: make(chan struct{}, 1)}
	var profiling sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !localName(r.Host, host):
			http.Error(w, "unknown host: use the IP address, or the name in admin.listen", http.StatusForbidden)
		case fromAnotherSite(r):
			http.Error(w, "requested by a page of another site", http.StatusForbidden)
		case r.URL.Path == "/readyz":
			ready.ServeHTTP(w, r)
		case !strings.HasPrefix(r.URL.Path, profiles):
			next.ServeHTTP(w, r)
		case !shortProfile(r):
			http.Error(w, "seconds: at most "+strconv.Itoa(maxSeconds), http.StatusBadRequest)
		case !profiling.TryLock():
			w.Header().Set("Retry-After", strconv.Itoa(maxSeconds))
			http.Error(w, "another profile is being made", http.StatusServiceUnavailable)
		default:
			defer profiling.Unlock()
			next.ServeHTTP(w, r)
		}
	})
}

// localName reports whether a request's Host is the configured one, or cannot be a name in the
// public DNS.
func localName(host, configured string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.EqualFold(host, configured)
}

// fromAnotherSite reports whether a page fetched the address. Clicking a link is not fetching.
func fromAnotherSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

func shortProfile(r *http.Request) bool {
	seconds := r.URL.Query().Get("seconds")
	if seconds == "" {
		return true
	}
	n, err := strconv.ParseFloat(seconds, 64) // trace takes fractions
	return err == nil && n <= maxSeconds
}

// remembered gives all clients the same answer of next for rememberTime. Requests that come while
// next makes an answer wait for it.
type remembered struct {
	next http.Handler
	turn chan struct{} // holds a value while one request uses the fields below

	until  time.Time
	answer recorded
}

func (h *remembered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := h.ask(r)
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes())
}

func (h *remembered) ask(r *http.Request) recorded {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	if time.Now().Before(h.until) {
		return h.answer
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), askTimeout)
	defer cancel()
	h.answer = recorded{header: make(http.Header), status: http.StatusOK}
	h.next.ServeHTTP(&h.answer, r.WithContext(ctx))
	h.until = time.Now().Add(rememberTime)
	return h.answer
}

// recorded is an answer that is kept.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorded) Header() http.Header         { return a.header }
func (a *recorded) WriteHeader(status int)      { a.status = status }
func (a *recorded) Write(p []byte) (int, error) { return a.body.Write(p) }
