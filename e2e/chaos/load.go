package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// load has the senders' options and their record of each letter.
type load struct {
	s       *system
	seed    uint64
	senders int

	mu       sync.Mutex
	letters  map[int]*posted
	tempfail int // times a sender was asked to come back: 4xx
	lost     int // times a sender lost its connection
	vanished int // the number of the next letter of a client that vanishes
}

// posted is a letter on its way, without its bytes.
type posted struct {
	letter
	size   int
	fate   fate
	traces int // fields that Postfixes put on top of it on its whole way
}

// fate is what must become of a letter.
type fate string

const (
	sending  fate = "not accepted yet" // it may arrive
	accepted fate = "accepted"         // it must arrive
	maybe    fate = "sent completely by a client that did not wait for the answer"
	never    fate = "sent in part"
)

// firstVanished is the number of the first letter of a client that vanishes.
const firstVanished = 1_000_000

// patience is how long a letter may take, from its first try on: much longer than any fault.
const patience = 3 * time.Minute

func newLoad(s *system, o options) *load {
	return &load{s: s, seed: o.seed, senders: o.senders, letters: make(map[int]*posted), vanished: firstVanished}
}

// run sends until ctx ends and the letters under way are accepted.
func (l *load) run(ctx context.Context) {
	senders := make([]func(), l.senders)
	for n := range senders {
		senders[n] = func() {
			r := rand.New(rand.NewPCG(l.seed, uint64(n)<<32))
			for id := n; ctx.Err() == nil; id += l.senders {
				l.insist(compose(l.seed, id), r)
				stage.Sleep(ctx, time.Duration(r.IntN(400))*time.Millisecond)
			}
		}
	}
	l.s.Together(senders...)
}

// post records a letter.
func (l *load) post(m letter, f fate, traces int) *posted {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &posted{letter: m, size: len(m.data), fate: f, traces: traces}
	p.data = nil
	l.letters[m.id] = p
	return p
}

// insist sends a letter as a mail server's queue does: again after 4xx or a lost connection, until
// it is accepted.
func (l *load) insist(m letter, r *rand.Rand) {
	p := l.post(m, sending, 2)
	ctx, cancel := context.WithTimeout(l.s.Context(), patience)
	defer cancel()
	reply := ""
	for ctx.Err() == nil {
		var err error
		reply, err = l.send(ctx, m)
		l.mu.Lock()
		switch {
		case err != nil:
			l.lost++
		case reply[0] == '2':
			p.fate = accepted
			l.mu.Unlock()
			return
		case reply[0] == '4':
			l.tempfail++
		}
		l.mu.Unlock()
		if err == nil && reply[0] == '5' {
			l.s.Errorf("letter %d was refused for good: %s", m.id, reply)
			return
		}
		stage.Sleep(ctx, time.Duration(100+r.IntN(700))*time.Millisecond)
	}
	if l.s.Context().Err() == nil {
		l.s.Errorf("letter %d was not accepted within %v; the last answer: %q", m.id, patience, reply)
	}
}

// send tries once.
func (l *load) send(ctx context.Context, m letter) (string, error) {
	c, err := servers.Dial(l.s.postfix.Front, "")
	if err != nil {
		return "", err
	}
	defer c.Close()
	release := context.AfterFunc(ctx, func() { c.Close() })
	defer release()
	reply, err := c.Send(stage.Stream(paced(m)))
	if err == nil {
		c.Cmd("QUIT")
	}
	return reply, err
}

// paced reads a letter at its pace.
func paced(m letter) io.Reader {
	r := io.Reader(bytes.NewReader(m.data))
	if m.pace > 0 {
		r = &slow{r, m.pace / time.Duration(1+len(m.data)/slowChunk)}
	}
	return r
}

const slowChunk = 16 << 10

type slow struct {
	r    io.Reader
	wait time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	time.Sleep(s.wait)
	return s.r.Read(p[:min(len(p), slowChunk)])
}

// vanish is a client that sends a letter or a part of it, and leaves before the answer. It talks to
// Postfix, or in one case of three to Detach itself.
func (l *load) vanish(ctx context.Context, f fault) {
	l.mu.Lock()
	id := l.vanished
	l.vanished++
	l.mu.Unlock()
	m := compose(l.seed, id)
	door, traces := l.s.postfix.Front, 2
	if f.direct {
		door, traces = l.s.wires[toDetach].Addr, 1
	}
	p := l.post(m, never, traces)
	c, err := servers.Dial(door, "")
	if err != nil {
		return // no server just now
	}
	defer c.Close()
	release := context.AfterFunc(ctx, func() { c.Close() })
	defer release()
	data := paced(m)
	if f.kind == vanishInData {
		data = io.MultiReader(io.LimitReader(data, int64(f.share*float64(len(m.data)-1))), iotest.ErrReader(io.ErrClosedPipe))
	}
	if reply, err := c.Begin(stage.Stream(nil)); err != nil || !strings.HasPrefix(reply, "354") {
		return
	}
	if f.kind == vanishAfterDot {
		l.mu.Lock()
		p.fate = maybe
		l.mu.Unlock()
	}
	c.Finish(stage.Stream(data))
	l.s.count("client " + f.kind)
}

// find returns a copy of what was posted.
func (l *load) find(id int) (posted, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ok := l.letters[id]; ok {
		return *p, true
	}
	return posted{}, false
}
