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
	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/config"
)

const (
	// A client gets this long to finish its mail or its download after SIGTERM: less than until the service manager kills
	// (TimeoutStopSec=60 in docs/postfix.md).
	drainTimeout = 50 * time.Second
	// How often what a killed process or an unreachable store left behind is tried again.
	sweepEvery = time.Minute
)

type serveCmd struct {
	configFlag
}

// Run opens everything that can fail before it takes the first mail.
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
	a, err := openApp(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	a.brand = brand
	l, err := listenAll(e.ctx, cfg)
	if err != nil {
		return err
	}
	if err := check.Store(e.ctx, a.store); err != nil {
		// No reason to stop: a mail with an attachment gets 451 until the store is back, and any other passes.
		e.log.Warn("store is not reachable", "error", err)
	}
	ctx, stop := context.WithCancel(e.ctx)
	var sweeping sync.WaitGroup
	sweeping.Go(func() { a.sweep(ctx, e.log) })
	defer sweeping.Wait()
	defer stop()
	return a.serve(e.ctx, l, e.log)
}

// collectEarly has the garbage collector begin when the heap has grown by half, unless GOGC says otherwise. What is in memory is
// nearly all buffers: to look at them costs next to nothing, and to double them before the next look would cost a crowd's memory.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func refuseIdle(cfg config.Config) error {
	if len(cfg.Proxy) == 0 && cfg.Gateway.Listen == "" {
		return usageError{errors.New("nothing to serve: give a [[proxy]], or gateway.listen")}
	}
	return nil
}

// loadBrand reads what the pages show of the operator.
func loadBrand(g config.Gateway) (gateway.Brand, error) {
	b := gateway.Brand{Name: g.Name, Color: g.Color, Contact: g.Contact}
	if g.Logo != "" {
		logo, err := os.ReadFile(g.Logo)
		if err != nil {
			return b, usageError{fmt.Errorf("gateway.logo: %w: name an image that this user can read, or write \"\"", err)}
		}
		b.Logo = logo
	}
	if err := b.Check(); err != nil {
		return b, usageError{errors.New("gateway." + strings.ReplaceAll(err.Error(), "\n", "\ngateway."))}
	}
	return b, nil
}

// sweep removes what mails have left that nobody got, now and then again.
func (a *app) sweep(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		gone, err := a.vault.Sweep(ctx)
		if len(gone) > 0 {
			log.Info("removed what interrupted mails had stored", "cids", gone)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("what interrupted mails had stored is not removed yet", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(sweepEvery):
		}
	}
}

// server is what http.Server and proxy.Server have in common.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// serve runs until ctx ends or a server fails, and then drains all of them.
func (a *app) serve(ctx context.Context, l listeners, log *slog.Logger) error {
	defer l.close() // of those that were never served
	m := newMetrics()
	servers := map[server]net.Listener{}
	for i, p := range a.cfg.Proxy {
		servers[a.newProxy(p, m.observe, log)] = m.sessions(l.proxy[i])
	}
	if l.gateway != nil {
		handler, err := gateway.New(gateway.Config{BaseURL: a.cfg.Gateway.URL, Brand: a.brand, DisableView: !a.cfg.Gateway.View}, a.vault, log)
		if err != nil {
			return err
		}
		srv := newHTTP(m.requests(handler), log)
		srv.ConnContext = gateway.ConnContext
		servers[srv] = l.gateway
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
	var admin server
	if l.admin != nil {
		admin = newHTTP(a.adminHandler(m), log)
		start(admin, l.admin)
	}
	notify("READY=1")
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	notify("STOPPING=1")
	log.Info("draining")
	err = errors.Join(err, shutdown(ctx, servers, admin))
	running.Wait()
	return err
}

// shutdown ends the servers side by side, and the administrator's after them: it can tell until then what goes on.
func shutdown(ctx context.Context, servers map[server]net.Listener, admin server) error {
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
	if admin != nil {
		all = append(all, admin.Shutdown(ctx))
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
		MaxHeaderBytes:    16 << 10, // a link in the path and a browser's cookies
		// What net/http says is of the connection, never of the path.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
