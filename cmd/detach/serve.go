package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/admin"
	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
)

// drainTimeout is how long clients have to finish a mail or a download after SIGTERM. The service
// manager kills the process later (TimeoutStopSec=60 in docs/postfix.md).
const drainTimeout = 50 * time.Second

type serveCmd struct {
	configFlag
}

// Run opens everything that can fail, and then accepts mails and requests until a signal comes.
func (c *serveCmd) Run(e *env) (err error) {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := refuseIdle(cfg); err != nil {
		return err
	}
	brand, err := loadBrand(cfg.Gateway)
	if err != nil {
		return err
	}
	collectEarly()
	a, err := openApp(cfg, e.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	l, err := listenAll(e.ctx, cfg)
	if err != nil {
		return err
	}
	if freespace.InMemory(cfg.DataDir) {
		// Not fatal: the mail flows for as long as the memory lasts.
		e.log.Warn("data_dir is in memory (a tmpfs), and its temporary files take the service's memory: put it on a disk", "data_dir", cfg.DataDir)
	}
	if err := check.Store(e.ctx, a.store); err != nil {
		// Not fatal: mail with attachments gets 451 until the store is back, and other mail passes.
		e.log.Warn("attachments cannot be stored now", "error", err, "remedy", a.store.Remedy(err))
	}
	ctx, stop := context.WithCancel(e.ctx)
	var tidying sync.WaitGroup
	tidying.Go(func() {
		a.logProblems(e.log)
		a.recoverLoop(ctx, e.log)
	})
	tidying.Go(func() { a.sweepLoop(ctx, e.log) })
	defer tidying.Wait()
	defer stop()
	return a.serve(e.ctx, l, brand, e.log)
}

// logProblems says what is wrong with the keyring and the ledger. The deny list is reported whenever
// it is read.
func (a *app) logProblems(log *slog.Logger) {
	for _, p := range a.vault.Problems() {
		switch p.Part {
		case "keys":
			log.Error("links do not open", "error", p.Err)
		case "ledger":
			log.Error("the ledger is not whole", "error", p.Err)
		}
	}
}

// collectEarly makes the garbage collector start when the heap has grown by half, unless GOGC says
// otherwise. Nearly all memory is in buffers: scanning them costs almost nothing, but with many
// sessions it would cost much to let them double first. In a control group with a limit the
// collector works harder from three quarters of it on, unless GOMEMLIMIT says otherwise: the rest
// is for what the collector does not count, such as the kernel's buffers.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if limit := cgroupLimit(); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 4 * 3)
	}
}

// recoverLoop removes what undelivered mails have stored: now, and again every minute.
func (a *app) recoverLoop(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		gone, err := a.vault.Recover(ctx)
		if len(gone) > 0 {
			log.Info("removed what interrupted mails had stored", "cids", gone)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("what interrupted mails had stored is not removed yet", "error", err)
		}
		wait(ctx, recoverEvery)
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// server is implemented by http.Server and proxy.Server.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// serve runs until ctx ends or a server fails, and then drains all servers.
func (a *app) serve(ctx context.Context, l listeners, brand gateway.Brand, log *slog.Logger) error {
	defer l.close() // for an error before the servers have their listeners
	m := admin.NewMetrics()
	m.Space(func(ctx context.Context) (free, least int64, ok bool) {
		_, state, ok := a.store.Tightest(ctx)
		return state.Free, state.Min, ok
	})
	servers, err := a.servers(l, brand, m, log)
	if err != nil {
		return err
	}
	failed := make(chan error, len(servers)+1)
	var running sync.WaitGroup
	start := func(s server, l net.Listener) {
		log.Info("listening", "address", l.Addr().String())
		running.Go(func() { failed <- s.Serve(l) })
	}
	for s, l := range servers {
		start(s, l)
	}
	var last server
	if l.admin != nil {
		last = newHTTP(admin.Guard(admin.Handler(m, a.ready), a.cfg.Admin.Listen), log)
		start(last, l.admin)
	}
	notify("READY=1")
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	notify("STOPPING=1")
	log.Info("draining")
	err = errors.Join(err, shutdown(ctx, servers, last))
	running.Wait()
	return err
}

// ready returns an error if a mail with an attachment would not be accepted now. Otherwise it
// returns the other faults that the operator should repair, one line each. These are not errors,
// because mail passes, and an orchestrator stops a process that is not ready. All lines are plain:
// they may quote a next hop, and operators read them on a terminal.
func (a *app) ready(ctx context.Context) (warnings []string, err error) {
	if err := errors.Join(a.vault.CanStore(), check.Ready(ctx, a.store, a.cfg.Proxy)); err != nil {
		return nil, errors.New(plain(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	for _, f := range a.problems() {
		warnings = append(warnings, plain(f.What+": "+f.Text))
	}
	return warnings, nil
}

// servers returns the proxies and the gateway, each with its listener.
func (a *app) servers(l listeners, brand gateway.Brand, m *admin.Metrics, log *slog.Logger) (map[server]net.Listener, error) {
	servers := make(map[server]net.Listener)
	for i, p := range a.cfg.Proxy {
		servers[a.newProxy(p, m.Mail, log)] = m.Sessions(l.proxy[i])
	}
	if l.gateway == nil {
		return servers, nil
	}
	cfg := gateway.Config{
		BaseURL: a.cfg.Gateway.URL, Brand: brand, DisableView: !a.cfg.Gateway.View,
		TrustedProxies: a.cfg.Gateway.TrustedProxies, Memory: a.web,
	}
	handler, err := gateway.New(cfg, a.vault, log)
	if err != nil {
		return nil, err
	}
	srv := newHTTP(m.Requests(handler), log)
	srv.ConnContext, srv.ConnState = gateway.ConnContext, gateway.ConnState()
	servers[srv] = l.gateway
	return servers, nil
}

// shutdown ends the servers together, and then the last one, which may be nil: the operator's,
// which answers until then.
func shutdown(ctx context.Context, servers map[server]net.Listener, last server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var draining sync.WaitGroup
	errs := make(chan error, len(servers))
	for s := range servers {
		draining.Go(func() { errs <- s.Shutdown(ctx) })
	}
	draining.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	if last != nil {
		all = append(all, last.Shutdown(ctx))
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

func newHTTP(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,                                         // enough for a link in the path and a browser's cookies
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn), // about connections, never paths
	}
}
