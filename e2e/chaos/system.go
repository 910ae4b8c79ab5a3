package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// system is everything that mail passes through.
type system struct {
	*stage.Program
	box     *servers.Mailbox
	postfix *servers.Postfix
	kubo    *servers.KuboNode // nil: the embedded store
	detach  *stage.Detach
	python  *stage.Decoder
	wires   map[string]*stage.Wire

	mu     sync.Mutex
	counts map[string]int // of faults, by what they did
}

// The wires, by where they lead to.
const (
	toDetach  = "wire to Detach"
	toPostfix = "wire to Postfix"
	toKubo    = "wire to kubo"
)

// impatient makes Postfix try again soon after a fault.
const impatient = "minimal_backoff_time = 1s\nmaximal_backoff_time = 5s\n"

// build starts everything.
func build(p *stage.Program, store string) *system {
	s := &system{Program: p, box: servers.NewMailbox(p), python: stage.StartDecoder(p), counts: make(map[string]int)}
	listen, after := servers.FreeAddr(p), servers.FreeAddr(p)
	s.wires = map[string]*stage.Wire{toDetach: stage.NewWire(p, listen), toPostfix: stage.NewWire(p, after)}
	s.postfix = stage.StartPostfix(p, servers.PostfixConfig{
		Filter: s.wires[toDetach].Addr, After: after, Destination: s.box.Addr, Main: impatient,
	})
	p.Cleanup(s.keepLog)
	api := ""
	if store == kubo {
		s.kubo = servers.Kubo(p)
		s.wires[toKubo] = stage.NewWire(p, strings.TrimPrefix(s.kubo.URL(), "http://"))
		api = servers.Multiaddr(s.wires[toKubo].Addr)
	}
	s.detach = stage.Configure(p, stage.Setup{Listen: listen, Reinject: s.wires[toPostfix].Addr, Kubo: api, Policy: `max_size = "64MiB"`})
	s.detach.Died = func(err error) { s.Fatalf("Detach has ended by itself: %v", err) }
	s.startDetach()
	return s
}

func (s *system) startDetach() {
	s.detach.Launch(s)
	s.detach.Await(s)
}

// spring sets a fault's trap on a wire.
func (s *system) spring(f fault) {
	t := stage.Trap{After: f.after}
	what := f.victim + " " + f.kind
	if f.answer {
		t.Words = acceptance
		what += " at an answer to a dot"
	}
	t.Then = func(c *stage.Conn) stage.Fate {
		s.count(what)
		s.Log(what)
		if f.kind == stalled {
			stage.Hold(c, time.After(f.lasts))
		}
		return map[string]stage.Fate{cut: stage.Cut, reset: stage.Reset, stalled: stage.GoesOn}[f.kind]
	}
	s.wires[f.victim].Set(f.way, t)
}

// keepLog saves Postfix's log after an error.
func (s *system) keepLog() {
	if s.Failed() {
		stage.Must(s, os.WriteFile(filepath.Join(s.Dir, "postfix.log"), []byte(s.postfix.Log()), 0o600))
	}
}

func (s *system) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// calmDown waits, after the last fault, until all accepted mail has arrived. Then it restarts
// Detach, so that the final checks see what survives a restart.
func (s *system) calmDown() {
	servers.Eventually(s, patience, "Postfix to deliver what it has accepted", func() bool {
		return s.postfix.Waiting() == 0 || s.Context().Err() != nil
	})
	s.detach.Terminate(s)
	s.startDetach()
}

// suffer lets the faults of the plan happen until ctx ends, each as soon as its victim's last fault
// is over. At the end everything runs again.
func (s *system) suffer(ctx context.Context, plan map[string][]fault, l *load) {
	began := time.Now()
	var victims []func()
	for _, faults := range plan {
		victims = append(victims, func() {
			for _, f := range faults {
				if !stage.Sleep(ctx, time.Until(began.Add(f.at))) {
					return
				}
				s.Log(f)
				s.happen(ctx, f, l)
			}
		})
	}
	s.Together(victims...)
	for _, w := range s.wires {
		w.Disarm()
	}
}
