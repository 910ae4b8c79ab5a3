package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// adminHandler answers whoever looks after this process.
func (a *app) adminHandler(m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// ready answers 200 if a mail with an attachment would be accepted now.
func (a *app) ready(w http.ResponseWriter, r *http.Request) {
	if err := check.Ready(r.Context(), a.store, a.cfg.Proxy); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// metrics counts what an administrator asks after: how much comes, how much of it is detached, how much fails.
type metrics struct {
	registry           *prometheus.Registry
	mails              *prometheus.CounterVec
	attachments, bytes prometheus.Counter
	sessionsTotal      prometheus.Counter
	sessionsOpen       prometheus.Gauge
	gateway            *prometheus.CounterVec
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(r)
	return &metrics{
		registry: r,
		mails: f.NewCounterVec(prometheus.CounterOpts{Name: "detach_mails_total",
			Help: "Mails by what became of them and the code of the reply: delivered and detached (with links), unchanged (nothing to detach) or original " +
				"(storing failed, and on_failure is deliver); refused by the next hop; rejected (too large, or a loop) or deferred (451) by Detach; abandoned by the client."},
			[]string{"outcome", "reply"}),
		attachments:   f.NewCounter(prometheus.CounterOpts{Name: "detach_attachments_total", Help: "Attachments detached from mails that were delivered."}),
		bytes:         f.NewCounter(prometheus.CounterOpts{Name: "detach_attachments_bytes_total", Help: "Bytes of these attachments, decoded."}),
		sessionsTotal: f.NewCounter(prometheus.CounterOpts{Name: "detach_smtp_sessions_total", Help: "SMTP connections accepted."}),
		sessionsOpen:  f.NewGauge(prometheus.GaugeOpts{Name: "detach_smtp_sessions", Help: "SMTP connections open now."}),
		gateway:       f.NewCounterVec(prometheus.CounterOpts{Name: "detach_gateway_requests_total", Help: "Requests to the gateway."}, []string{"code", "method"}),
	}
}

func (m *metrics) requests(next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.gateway, next)
}

// observe counts a mail.
func (m *metrics) observe(o transaction.Outcome, code int) {
	m.mails.WithLabelValues(string(o.Result), strconv.Itoa(code)).Inc()
	if o.Result == transaction.ResultDetached {
		m.attachments.Add(float64(o.Attachments))
		m.bytes.Add(float64(o.Bytes))
	}
}

// sessions counts the connections of a proxy.
func (m *metrics) sessions(l net.Listener) net.Listener { return countedListener{l, m} }

type countedListener struct {
	net.Listener
	m *metrics
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

// SetReadBuffer is what the proxy asks of a socket.
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
