package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// errStop ends a walk over the ledger early.
var errStop = errors.New("enough")

// listing is what lines of the ledger say about other lines. A reader of entries needs it first.
type listing struct {
	l        *Ledger
	size     map[crypto.Epoch]int64 // of the files, in bytes: lines after it do not count
	gone     map[place]int64        // the offset of the last line that takes the object back
	extended map[Digest]crypto.Epoch
	withGone bool // also take objects that were taken back
}

// place is an object in an epoch's file.
type place struct {
	epoch  crypto.Epoch
	object Digest
}

// These stand in the lines that say something about others, and in few other lines.
var (
	goneMark = []byte(`"gone":true`)
	fromMark = []byte(`"from":"`)
)

// listing reads all files once.
func (l *Ledger) listing() (*listing, error) {
	epochs, err := l.Epochs()
	if err != nil {
		return nil, err
	}
	all := &listing{l: l, size: make(map[crypto.Epoch]int64), gone: make(map[place]int64), extended: make(map[Digest]crypto.Epoch)}
	for _, e := range epochs {
		all.size[e], err = l.lines(e, 0, func(at int64, text []byte) error {
			if bytes.Contains(text, goneMark) || bytes.Contains(text, fromMark) {
				all.note(e, at, text)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
	}
	return all, nil
}

func (a *listing) note(e crypto.Epoch, at int64, text []byte) {
	line, c, ok := parseLine(text)
	if !ok {
		return
	}
	d, _ := DigestOf(c)
	if line.Gone {
		a.gone[place{e, d}] = at
		delete(a.extended, d)
	} else if old, ok := a.extended[d]; line.From != "" && (!ok || endsBefore(old, e)) {
		a.extended[d] = e
	}
}

// each calls take for each object whose end is that of the epoch, in the order of their lines.
func (a *listing) each(e crypto.Epoch, take func(Entry) error) error {
	seen := make(map[uint64]struct{})
	_, err := a.l.lines(e, 0, func(at int64, text []byte) error {
		if at >= a.size[e] {
			return errStop
		}
		line, c, ok := parseLine(text)
		if !ok || line.Gone {
			return nil
		}
		d, _ := DigestOf(c)
		short := binary.BigEndian.Uint64(d[:])
		if _, ok := seen[short]; ok {
			return nil
		}
		entry := line.entry(c, e)
		last, ok := a.gone[place{e, d}]
		entry.Gone = ok && at < last
		if now, ok := a.extended[d]; entry.Gone && !a.withGone || ok && now != e {
			return nil
		}
		if !entry.Gone {
			seen[short] = struct{}{}
		}
		return take(entry)
	})
	if errors.Is(err, errStop) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// eachEpoch calls each for every epoch that has a file, in the order of their names.
func (a *listing) eachEpoch(take func(Entry) error) error {
	for _, e := range slices.Sorted(maps.Keys(a.size)) {
		if err := a.each(e, take); err != nil {
			return err
		}
	}
	return nil
}

// Each calls take for each object whose end is that of the epoch, until take returns an error, which
// Each returns. It reads the files and keeps little of them in memory: 8 bytes for each object, so
// that an object with two lines is taken once.
func (l *Ledger) Each(e crypto.Epoch, take func(Entry) error) error {
	all, err := l.listing()
	if err != nil {
		return err
	}
	return all.each(e, take)
}

// All calls Each for every epoch that has a file, in the order of their names.
func (l *Ledger) All(take func(Entry) error) error {
	all, err := l.listing()
	if err != nil {
		return err
	}
	return all.eachEpoch(take)
}

// AllWithGone is All, but also takes the objects that were taken back: their Gone is true.
func (l *Ledger) AllWithGone(take func(Entry) error) error {
	all, err := l.listing()
	if err != nil {
		return err
	}
	all.withGone = true
	return all.eachEpoch(take)
}

// Find returns the entries of those objects that are in the ledger, in its order.
func (l *Ledger) Find(cids ...cid.Cid) (found []Entry, err error) {
	if len(cids) == 0 {
		return nil, nil
	}
	wanted := setOf(cids)
	err = l.All(func(e Entry) error {
		if wanted[e.CID] {
			found = append(found, e)
		}
		return nil
	})
	return found, err
}

// OfMails returns the entries of the mails with these ids, in the order of the ledger.
func (l *Ledger) OfMails(ids ...string) (found []Entry, err error) {
	wanted := setOf(ids)
	err = l.All(func(e Entry) error {
		if e.Mail != "" && wanted[e.Mail] {
			found = append(found, e)
		}
		return nil
	})
	return found, err
}

func setOf[T comparable](list []T) map[T]bool {
	set := make(map[T]bool, len(list))
	for _, one := range list {
		set[one] = true
	}
	return set
}

// Remove deletes an epoch's list, for example long after the epoch has ended.
func (l *Ledger) Remove(e crypto.Epoch) error {
	return errors.Join(l.remove(e), durable.Remove(l.sweptPath(e)))
}

func (l *Ledger) remove(e crypto.Epoch) error {
	if err := durable.Remove(l.path(e)); err != nil {
		return fmt.Errorf("remove ledger: %w", err)
	}
	return durable.SyncDir(l.dir)
}
