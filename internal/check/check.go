// Package check tries everything that a configuration names, in the order in which a mail needs it.
//
// The invariant: it may run beside the service and changes nothing that the service depends on. It
// creates no data directory, takes no address that is in use, and removes what it writes. At each
// next hop it begins a mail and takes it back before DATA; meanwhile it listens at the addresses of
// a Detach that does not run.
package check

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// timeout bounds each question to another program, and all of Ready: an operator or a monitoring
// system is waiting.
const timeout = 5 * time.Second

// Level says what a Finding means for the service.
type Level int

// The levels, best first.
const (
	OK     Level = iota
	Warn         // it works, but not as it should
	Fail         // the service starts, and something does not work
	Refuse       // the service does not start
)

// Finding is the result of one check.
type Finding struct {
	Level Level
	What  string // the configuration's key, or the part that was tried
	Text  string // one line: what was found and, unless the level is OK, what to do
}

// Target names what Run checks.
type Target struct {
	Config config.Config
	Open   func() (*freespace.Store, error) // opens what is in data_dir; closing the store closes all of it
	Brand  func() error                     // reads what the pages show about the operator

	// Problems finds what is wrong with the keyring ("keys") and the deny list ("denied"). It is
	// called after Open.
	Problems func() []Finding
}

// Run tries everything, and reports each Finding as soon as it is known.
func Run(ctx context.Context, t Target, report func(Finding)) {
	c := checker{ctx, t, report}
	if c.dataDir(t.Config.DataDir) {
		c.storage()
	}
	c.kuboAPI(&t.Config.Store)
	running := answersAsDetach(ctx, t.Config.Admin.Listen)
	for i, p := range t.Config.Proxy {
		c.address(fmt.Sprintf("proxy[%d].listen", i), p.Listen, running)
	}
	c.nextHops()
	c.address("gateway.listen", t.Config.Gateway.Listen, running)
	c.address("admin.listen", t.Config.Admin.Listen, running)
	c.url(t.Config.Gateway.URL, running)
	if err := t.Brand(); err != nil {
		c.refuse("gateway", "%v", err)
	}
}

// nextHops tries each next hop. Detach, or its stand-in, must listen meanwhile, so that a next hop
// that leads back to Detach is found.
func (c *checker) nextHops() {
	defer standIn(c.ctx, c.target.Config)()
	for i, p := range c.target.Config.Proxy {
		c.nextHop(fmt.Sprintf("proxy[%d].", i), p)
	}
}

type checker struct {
	ctx    context.Context
	target Target
	report func(Finding)
}

func (c *checker) found(level Level, what, format string, args ...any) {
	c.report(Finding{level, what, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")})
}

func (c *checker) ok(what, format string, args ...any)     { c.found(OK, what, format, args...) }
func (c *checker) warn(what, format string, args ...any)   { c.found(Warn, what, format, args...) }
func (c *checker) fail(what, format string, args ...any)   { c.found(Fail, what, format, args...) }
func (c *checker) refuse(what, format string, args ...any) { c.found(Refuse, what, format, args...) }

// Ready returns nil if a mail with an attachment would be accepted now.
func Ready(ctx context.Context, store ipfs.Store, proxies []config.Proxy) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := Store(ctx, store); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, p := range proxies {
		if err := greet(ctx, p.Reinject); err != nil {
			return fmt.Errorf("next hop: %w", err)
		}
	}
	return nil
}

// Store writes to a store, and returns an error if that does not work.
func Store(ctx context.Context, store ipfs.Store) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return store.Check(ctx)
}
