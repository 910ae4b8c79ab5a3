package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// verdict has the results of a run.
type verdict struct {
	accepted, delivered, copies int
	maybe                       int // delivered, and the client did not wait for the answer
	withLinks                   int // copies
	opened                      int // links
	lost, damaged               int
	stored, unused              int      // objects, and objects without a link in a delivered mail
	leftovers                   []string // stored and not in the ledger
}

// verifiers open the links side by side.
const verifiers = 4

// verify checks every letter, every delivered copy, and the store.
func verify(s *system, l *load) *verdict {
	v := &verdict{}
	arrived := make(map[int]int)
	copies := s.box.Mails()
	v.copies = len(copies)
	used := v.checkAll(s, l, copies, arrived)
	for _, id := range slices.Sorted(maps.Keys(l.letters)) {
		switch p := l.letters[id]; p.fate {
		case accepted:
			v.accepted++
			if arrived[id] == 0 {
				v.lost++
				s.Errorf("LOST: letter %d (%d bytes, %d attachments) was accepted and has not arrived", id, p.size, len(p.files))
			} else {
				v.delivered++
			}
		case maybe:
			v.maybe += min(1, arrived[id])
		}
	}
	v.leftovers = s.leftovers()
	for _, left := range v.leftovers {
		s.Errorf("left over: %s", left)
	}
	for _, c := range s.stored() {
		v.stored++
		if !used[c] {
			v.unused++
		}
	}
	return v
}

// checkAll checks the copies, counts them for each letter, and returns the objects they link to.
func (v *verdict) checkAll(s *system, l *load, copies []servers.Mail, arrived map[int]int) map[string]bool {
	used := make(map[string]bool)
	var mu sync.Mutex
	next := 0
	work := func() {
		for s.Context().Err() == nil {
			mu.Lock()
			n := next
			next++
			mu.Unlock()
			if n >= len(copies) {
				return
			}
			id, found, err := s.checkCopy(l, copies[n])
			mu.Lock()
			arrived[id]++
			v.take(found, used)
			if err != nil {
				v.damaged++
			}
			mu.Unlock()
			if err != nil {
				s.Errorf("DAMAGED: letter %d, copy in %s: %v", id, s.keep(n, copies[n].Data), err)
			}
		}
	}
	s.Together(slices.Repeat([]func(){work}, verifiers)...)
	return used
}

// take counts a copy's links.
func (v *verdict) take(links []stage.Link, used map[string]bool) {
	for _, link := range links {
		used[link.CID] = true
	}
	v.withLinks += min(1, len(links))
	v.opened += len(links)
}

// checkCopy checks one copy, and whether it could be delivered at all.
func (s *system) checkCopy(l *load, delivered servers.Mail) (int, []stage.Link, error) {
	id, ok := idOf(delivered.Data)
	sent, known := l.find(id)
	switch {
	case !ok || !known:
		return -1, nil, fmt.Errorf("no client has sent it: %.300q", delivered.Data)
	case sent.fate == never:
		return id, nil, fmt.Errorf("its client has vanished inside DATA, after a part of its %d bytes", sent.size)
	}
	links, err := s.check(delivered, sent)
	return id, links, err
}

// keep saves a damaged copy, and returns its path.
func (s *system) keep(n int, mail []byte) string {
	path := filepath.Join(s.Dir, fmt.Sprintf("damaged-%d.eml", n))
	if err := os.WriteFile(path, mail, 0o600); err != nil {
		return err.Error()
	}
	return path
}

// leftovers returns objects that the ledger does not know, and unfinished ones. Detach deletes both
// as soon as it has started.
func (s *system) leftovers() []string {
	var left []string
	for deadline := time.Now().Add(servers.Patience); ; {
		ledger := s.detach.Ledger(s)
		left = s.detach.Files(s, "pending/*", "objects/put-*.tmp")
		for _, c := range s.stored() {
			if !ledger[c] {
				left = append(left, "object "+c+", which is not in the ledger")
			}
		}
		if len(left) == 0 || time.Now().After(deadline) || !stage.Sleep(s.Context(), 500*time.Millisecond) {
			return left
		}
	}
}

// stored lists the objects in the store.
func (s *system) stored() (cids []string) {
	if s.kubo == nil {
		for _, name := range s.detach.Files(s, "objects/*.car") {
			cids = append(cids, strings.TrimSuffix(filepath.Base(name), ".car"))
		}
		return cids
	}
	for _, pin := range s.kubo.Pins() {
		if c, name, _ := strings.Cut(pin, " "); strings.HasPrefix(name, "detach/v1 ") {
			cids = append(cids, c)
		}
	}
	return cids
}
