package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// verdict is what is found when all is over.
type verdict struct {
	accepted, delivered, copies int
	maybe                       int // delivered, and nobody waited for the answer
	withLinks                   int // copies
	opened, originals           int // links
	lost, damaged               int
	stored, unused              int      // objects; of them those that no delivered mail has a link to
	leftovers                   []string // what is stored, and no longer or not yet anyone's
}

// verifiers open the links side by side.
const verifiers = 4

// verify looks at every letter, at every copy that was delivered, and at the store.
func verify(st *stage, h *house, l *load) *verdict {
	v := &verdict{}
	arrived := make(map[int]int)
	copies := h.box.Mails()
	v.copies = len(copies)
	used := v.checkAll(st, h, l, copies, arrived)
	for _, id := range slices.Sorted(maps.Keys(l.letters)) {
		switch p := l.letters[id]; p.fate {
		case accepted:
			v.accepted++
			if arrived[id] == 0 {
				v.lost++
				st.Errorf("LOST: letter %d (%d bytes, %d attachments) was accepted and has not arrived", id, p.size, len(p.files))
			} else {
				v.delivered++
			}
		case maybe:
			v.maybe += min(1, arrived[id])
		}
	}
	v.leftovers = h.leftovers(st)
	for _, left := range v.leftovers {
		st.Errorf("left over: %s", left)
	}
	for _, c := range h.stored(st) {
		v.stored++
		if !used[c] {
			v.unused++
		}
	}
	return v
}

// checkAll checks the copies, counts them for each letter, and returns the objects that they have links to.
func (v *verdict) checkAll(st *stage, h *house, l *load, copies []servers.Mail, arrived map[int]int) map[string]bool {
	used := make(map[string]bool)
	var mu sync.Mutex
	next := 0
	work := func() {
		for st.Context().Err() == nil {
			mu.Lock()
			n := next
			next++
			mu.Unlock()
			if n >= len(copies) {
				return
			}
			id, found, err := h.checkCopy(st, l, copies[n])
			mu.Lock()
			arrived[id]++
			v.take(found, used)
			if err != nil {
				v.damaged++
			}
			mu.Unlock()
			if err != nil {
				st.Errorf("DAMAGED: letter %d, copy in %s: %v", id, h.keep(st, n, copies[n].Data), err)
			}
		}
	}
	st.together(slices.Repeat([]func(){work}, verifiers)...)
	return used
}

// take counts what a copy has links to.
func (v *verdict) take(found links, used map[string]bool) {
	for _, link := range slices.Concat(found.files, found.all, []string{found.original}) {
		if link != "" {
			used[cidOf(link)] = true
		}
	}
	if len(found.files) > 0 {
		v.withLinks++
	}
	v.opened += len(found.files) + len(found.all)
	v.originals += min(1, len(found.original))
}

// checkCopy checks one copy: also that it may be there.
func (h *house) checkCopy(st *stage, l *load, delivered servers.Mail) (int, links, error) {
	id, ok := idOf(delivered.Data)
	sent, known := l.find(id)
	switch {
	case !ok || !known:
		return -1, links{}, fmt.Errorf("nobody has sent it: %.300q", delivered.Data)
	case sent.fate == never:
		return id, links{}, fmt.Errorf("its client has vanished inside DATA, after a part of its %d bytes", sent.size)
	}
	found, err := check(st.Context(), h.detach.url, delivered, sent)
	return id, found, err
}

// keep saves a copy that is damaged, and returns where.
func (h *house) keep(st *stage, n int, mail []byte) string {
	path := filepath.Join(st.dir, fmt.Sprintf("damaged-%d.eml", n))
	if err := os.WriteFile(path, mail, 0o600); err != nil {
		return err.Error()
	}
	return path
}

// sweepPatience is for Detach to delete what its former lives have left: it begins with that as soon as it has started.
const sweepPatience = 15 * time.Second

// leftovers is what the store holds and the ledger does not know, and what was begun and never finished.
func (h *house) leftovers(st *stage) []string {
	var left []string
	for deadline := time.Now().Add(sweepPatience); ; {
		ledger := h.ledger(st)
		left = h.files(st, "pending/*", "objects/put-*.tmp")
		for _, c := range h.stored(st) {
			if !ledger[c] {
				left = append(left, "object "+c+", which is not in the ledger")
			}
		}
		if len(left) == 0 || time.Now().After(deadline) || !sleep(st.Context(), 500*time.Millisecond) {
			return left
		}
	}
}

// stored lists the objects in the store.
func (h *house) stored(st *stage) (cids []string) {
	if h.kubo == nil {
		for _, name := range h.files(st, "objects/*.car") {
			cids = append(cids, strings.TrimSuffix(filepath.Base(name), ".car"))
		}
		return cids
	}
	for _, pin := range h.kubo.Pins() {
		if c, name, _ := strings.Cut(pin, " "); strings.HasPrefix(name, "detach/v1 ") {
			cids = append(cids, c)
		}
	}
	return cids
}

// ledger reads Detach's record of what it has stored and promised.
func (h *house) ledger(st *stage) map[string]bool {
	cids := make(map[string]bool)
	for _, name := range h.files(st, "ledger/*.jsonl") {
		text, err := os.ReadFile(filepath.Join(h.detach.dataDir, name))
		if err != nil {
			st.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var entry struct{ CID string }
			// Half a line is what a process that was killed had written of its last one.
			if json.Unmarshal([]byte(line), &entry) == nil {
				cids[entry.CID] = true
			}
		}
	}
	return cids
}

// files lists those of the data directory that match, with their paths below it.
func (h *house) files(st *stage, patterns ...string) (names []string) {
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(h.detach.dataDir, pattern))
		if err != nil {
			st.Fatal(err)
		}
		for _, path := range paths {
			names = append(names, strings.TrimPrefix(path, h.detach.dataDir+"/"))
		}
	}
	return names
}
