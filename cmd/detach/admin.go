package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/proxy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminHandler answers whoever looks after this process.
func (h *house) adminHandler(m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// ready is 200 when a mail with an attachment would be taken now.
func (h *house) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	if err := h.store.Check(ctx); err != nil {
		http.Error(w, "store: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	for _, p := range h.cfg.Proxy {
		if _, err := greet(ctx, p.Reinject); err != nil {
			http.Error(w, "next hop: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = io.WriteString(w, "ok\n")
}

// metrics counts what an administrator asks after: how much comes, how much of it is detached, how much fails.
type metrics struct {
	registry       *prometheus.Registry
	mails          *prometheus.CounterVec
	objects, bytes prometheus.Counter
	sessionsTotal  prometheus.Counter
	sessionsOpen   prometheus.Gauge
	gateway        *prometheus.CounterVec
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(r)
	return &metrics{
		registry: r,
		mails: f.NewCounterVec(prometheus.CounterOpts{Name: "detach_mails_total",
			Help: "Mails that may have attachments: detached (something was stored) or kept (nothing was), both counted before they are passed on; " +
				"undone, counted in addition when a mail then was not delivered."}, []string{"outcome"}),
		objects:       f.NewCounter(prometheus.CounterOpts{Name: "detach_objects_stored_total", Help: "Objects stored for mails that were passed on."}),
		bytes:         f.NewCounter(prometheus.CounterOpts{Name: "detach_objects_stored_bytes_total", Help: "Bytes of these objects, before encryption."}),
		sessionsTotal: f.NewCounter(prometheus.CounterOpts{Name: "detach_smtp_sessions_total", Help: "SMTP connections accepted."}),
		sessionsOpen:  f.NewGauge(prometheus.GaugeOpts{Name: "detach_smtp_sessions", Help: "SMTP connections open now."}),
		gateway:       f.NewCounterVec(prometheus.CounterOpts{Name: "detach_gateway_requests_total", Help: "Requests to the gateway."}, []string{"code", "method"}),
	}
}

func (m *metrics) requests(next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerCounter(m.gateway, next)
}

// count watches the attachments of one mail.
func (m *metrics) count(b *vault.Batch) proxy.Batch {
	return &countedBatch{Batch: b, m: m, sizes: map[cid.Cid]int64{}}
}

type countedBatch struct {
	*vault.Batch
	m     *metrics
	sizes map[cid.Cid]int64
}

func (b *countedBatch) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	counted := &countedReader{Reader: r}
	l, err := b.Batch.Detach(ctx, name, mediaType, counted)
	if err == nil {
		b.sizes[l.CID] = counted.n
	}
	return l, err
}

func (b *countedBatch) Commit(ctx context.Context) error {
	if err := b.Batch.Commit(ctx); err != nil {
		return err
	}
	outcome := "kept"
	for _, c := range b.CIDs() { // without those that were dropped
		outcome = "detached"
		b.m.objects.Inc()
		b.m.bytes.Add(float64(b.sizes[c]))
	}
	b.m.mails.WithLabelValues(outcome).Inc()
	return nil
}

func (b *countedBatch) Discard(ctx context.Context) error {
	b.m.mails.WithLabelValues("undone").Inc()
	return b.Batch.Discard(ctx)
}

type countedReader struct {
	io.Reader
	n int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
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

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
