// Package admin answers the people and programs that look after the process: metrics, health,
// readiness and profiles.
//
// The invariant: a metric has counts and no content. No label names a mail, a file or a person.
//
// [Guard] admits no page in a browser, one profile at a time, and one new answer of /readyz a
// second.
package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// Handler serves the addresses of admin.listen. ready returns an error if a mail with an attachment
// would not be accepted now, and otherwise what else should be repaired, one line each.
func Handler(m *Metrics, ready func(context.Context) (warnings []string, err error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		warnings, err := ready(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
		for _, line := range warnings {
			_, _ = io.WriteString(w, "warning: "+line+"\n")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	profiles := map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace}
	for name, handler := range profiles {
		mux.Handle("GET /debug/pprof/"+name, handler)
	}
	return mux
}

// Metrics counts what an operator asks about: how many mails come, how much of them is detached,
// how much fails. It is safe for concurrent use.
type Metrics struct {
	registry           *prometheus.Registry
	mails, gateway     *prometheus.CounterVec
	attachments, bytes prometheus.Counter
	sessionsTotal      prometheus.Counter
	sessionsOpen       prometheus.Gauge
}

// NewMetrics returns Metrics whose counts are zero.
func NewMetrics() *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &Metrics{
		registry: r,
		mails: vector("detach_mails_total", "Mails by what happened to them and the code of the reply: delivered and detached (with links), "+
			"unchanged (nothing to detach) or original (storing failed, and on_failure is deliver); refused by the next hop; "+
			"rejected (too large, or a loop) or deferred (451) by Detach; abandoned by the client.", "outcome", "reply"),
		attachments:   counter("detach_attachments_total", "Attachments detached from mails that were delivered."),
		bytes:         counter("detach_attachments_bytes_total", "Bytes of these attachments, decoded."),
		sessionsTotal: counter("detach_smtp_sessions_total", "SMTP connections accepted."),
		sessionsOpen:  f.NewGauge(prometheus.GaugeOpts{Name: "detach_smtp_sessions", Help: "SMTP connections open now."}),
		gateway:       vector("detach_gateway_requests_total", "Requests to the gateway.", "code", "method"),
	}
}

// Space reports the store's free space at each scrape, and how much of it must stay free. While ask
// returns false, nothing is reported.
func (m *Metrics) Space(ask func(context.Context) (free, least int64, ok bool)) {
	m.registry.MustRegister(spaceCollector(ask))
}

// scrapeTimeout bounds how long a scrape waits for the store.
const scrapeTimeout = 5 * time.Second

var (
	freeBytes = prometheus.NewDesc("detach_store_free_bytes", "Bytes that can be stored until the disk is full: "+
		"of data_dir's file system or, if that is nearer to store.min_free, of kubo's StorageMax.", nil, nil)
	minFreeBytes = prometheus.NewDesc("detach_store_min_free_bytes", "Below so many free bytes attachments are not stored (store.min_free); 0 if it is off.", nil, nil)
)

type spaceCollector func(context.Context) (free, least int64, ok bool)

func (spaceCollector) Describe(ch chan<- *prometheus.Desc) { ch <- freeBytes; ch <- minFreeBytes }

func (ask spaceCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	if free, least, ok := ask(ctx); ok {
		ch <- prometheus.MustNewConstMetric(freeBytes, prometheus.GaugeValue, float64(free))
		ch <- prometheus.MustNewConstMetric(minFreeBytes, prometheus.GaugeValue, float64(least))
	}
}

// Requests counts the requests that next answers.
func (m *Metrics) Requests(next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.gateway, next)
}

// Mail counts a mail, and the code of the reply to its client.
func (m *Metrics) Mail(o transaction.Outcome, code int) {
	m.mails.WithLabelValues(string(o.Result), strconv.Itoa(code)).Inc()
	if o.Result == transaction.ResultDetached {
		m.attachments.Add(float64(o.Attachments))
		m.bytes.Add(float64(o.Bytes))
	}
}

// Sessions counts the connections that a proxy accepts.
func (m *Metrics) Sessions(l net.Listener) net.Listener { return countedListener{l, m} }

type countedListener struct {
	net.Listener
	m *Metrics
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.m.sessionsTotal.Inc()
	l.m.sessionsOpen.Inc()
	return &countedConn{Conn: c, closed: sync.OnceFunc(l.m.sessionsOpen.Dec)}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

// SetReadBuffer lets the proxy bound the buffer of its socket.
func (c *countedConn) SetReadBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetReadBuffer(int) error }); ok {
		return b.SetReadBuffer(bytes)
	}
	return errors.ErrUnsupported
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
