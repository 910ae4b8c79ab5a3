package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// house is everything that mail passes through.
type house struct {
	st      *stage
	box     *servers.Mailbox
	postfix *servers.Postfix
	kubo    *servers.KuboNode // nil: the embedded store
	detach  *detach
	wires   map[string]*wire

	mu     sync.Mutex
	counts map[string]int // how often what has happened
}

// The wires, by where they lead to.
const (
	toDetach  = "wire to Detach"
	toPostfix = "wire to Postfix"
	toKubo    = "wire to kubo"
)

// What mail waits for after a fault is over is not what is tried here, so Postfix tries again soon.
const impatient = "minimal_backoff_time = 1s\nmaximal_backoff_time = 5s\n"

// build starts everything.
func build(st *stage, store, bin string) *house {
	h := &house{st: st, box: servers.NewMailbox(st), wires: make(map[string]*wire), counts: make(map[string]int)}
	listen, after := servers.FreeAddr(st), servers.FreeAddr(st)
	h.lay(toDetach, listen)
	h.lay(toPostfix, after)
	h.postfix = servers.StartPostfix(st, servers.PostfixConfig{
		Filter: h.wires[toDetach].addr, After: after, Destination: h.box.Addr, Domain: domain, Users: []string{"wilhelmina"}, Main: impatient,
	})
	st.Cleanup(h.keepLog)
	stored := `kind = "embedded"`
	if store == kubo {
		h.kubo = servers.Kubo(st)
		h.lay(toKubo, strings.TrimPrefix(h.kubo.URL(), "http://"))
		host, port, _ := strings.Cut(h.wires[toKubo].addr, ":")
		stored = fmt.Sprintf("kind = \"kubo\"\n[store.kubo]\napi = \"/ip4/%s/tcp/%s\"", host, port)
	}
	h.detach = newDetach(st, bin, listen, h.wires[toPostfix].addr, stored)
	h.detach.start()
	st.Cleanup(h.detach.end)
	return h
}

func (h *house) lay(name, target string) {
	h.wires[name] = newWire(h.st, target, func(t trap) {
		what := name + " " + t.kind
		if t.words != "" {
			what += " at an answer to a dot"
		}
		h.count(what)
		h.st.Log(what)
	})
}

// keepLog saves Postfix's log from being removed with it, if there may be questions.
func (h *house) keepLog() {
	if h.st.Failed() {
		if err := os.WriteFile(filepath.Join(h.st.dir, "postfix.log"), []byte(h.postfix.Log()), 0o600); err != nil {
			h.st.Error(err)
		}
	}
}

func (h *house) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[what]++
}

// calmDown lets everything that was accepted arrive, once there are no more faults. Then Detach starts once more, as it would
// after a crash: so all that is looked at afterwards has survived that too.
func (h *house) calmDown() {
	servers.Eventually(h.st, patience, "Postfix to deliver what it has accepted", func() bool {
		return h.postfix.Waiting() == 0 || h.st.Context().Err() != nil
	})
	h.detach.terminate()
	h.detach.start()
}

// suffer lets the faults of the plan happen, each of them to its victim as soon as the one before is over, until ctx ends. At
// the end everything stands again.
func (h *house) suffer(ctx context.Context, plan map[string][]fault, l *load) {
	began := time.Now()
	var victims []func()
	for _, faults := range plan {
		victims = append(victims, func() {
			for _, f := range faults {
				if !sleep(ctx, time.Until(began.Add(f.at))) {
					return
				}
				h.st.Log(f)
				h.happen(ctx, f, l)
			}
		})
	}
	h.st.together(victims...)
	for _, w := range h.wires {
		w.disarm()
	}
}
