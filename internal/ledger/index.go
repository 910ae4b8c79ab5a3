package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// maxVerified bounds the objects that are remembered without a line in a file: about 16 MB.
const maxVerified = 100_000

// Record is an object in the index. An index of a million objects takes about 160 MB.
type Record struct {
	Size  int64        // of the attachment, in bytes
	begin int64        // created, in seconds since 1970
	Epoch crypto.Epoch // whose end is the object's
}

// NewRecord returns what Remember keeps.
func NewRecord(size int64, created time.Time, e crypto.Epoch) Record {
	return Record{Size: size, begin: created.Unix(), Epoch: e}
}

// Created returns when the object was stored, to the second.
func (r Record) Created() time.Time { return time.Unix(r.begin, 0).UTC() }

// Lookup finds an object in the files, also if another process has just committed it. Beside an error,
// it does not know whether an object that it did not find is in a file that cannot be read.
func (l *Ledger) Lookup(c cid.Cid) (rec Record, ok bool, err error) {
	d, ok := DigestOf(c)
	if !ok {
		return Record{}, false, nil
	}
	if rec, ok = l.get(d); ok {
		return rec, true, nil
	}
	if err := l.CatchUp(); err != nil {
		return Record{}, false, fmt.Errorf("read ledger: %w", err)
	}
	rec, ok = l.get(d)
	return rec, ok, nil
}

// Known is Lookup, but finds the objects of Remember too.
func (l *Ledger) Known(c cid.Cid) (rec Record, ok bool, err error) {
	if d, isObject := DigestOf(c); isObject {
		l.mu.RLock()
		rec, ok = l.verified[d]
		l.mu.RUnlock()
	}
	if ok {
		return rec, true, nil
	}
	return l.Lookup(c)
}

// Remember makes Known find an object whose origin was verified, until the process ends or others
// take its place.
func (l *Ledger) Remember(c cid.Cid, rec Record) {
	d, ok := DigestOf(c)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.verified[d]; !ok && len(l.verified) >= maxVerified {
		for some := range l.verified {
			delete(l.verified, some)
			break
		}
	}
	l.verified[d] = rec
}

func (l *Ledger) get(d Digest) (Record, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	rec, ok := l.index[d]
	return rec, ok
}

// CatchUp reads what was appended before it was called. Any client can cause a miss, so a miss is
// cheap: it costs one stat for each file, and hits do not wait for it. Concurrent misses share
// scans: if a scan began and ended while the caller waited, the caller needs no other.
func (l *Ledger) CatchUp() error {
	begun := l.scans.Load()
	l.scan.Lock()
	defer l.scan.Unlock()
	if l.scans.Load() == begun {
		l.scans.Add(1)
		l.scanErr = l.refresh()
	}
	return l.scanErr
}

func (l *Ledger) refresh() error {
	entries, err := l.files()
	if err != nil {
		return err
	}
	var errs []error
	for epoch, entry := range entries {
		// A file may be removed during the scan. The index keeps what was read from it. A file that
		// cannot be read must not hide the others.
		if err := l.follow(entry, epoch); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Ledger) follow(entry fs.DirEntry, e crypto.Epoch) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	if info.Size() < l.read[e] {
		l.read[e] = 0 // the file was replaced, for example from a backup
	}
	if info.Size() == l.read[e] {
		return nil
	}
	return l.tail(e)
}

// tail reads the lines that were added.
func (l *Ledger) tail(e crypto.Epoch) (err error) {
	l.read[e], err = l.lines(e, l.read[e], func(_ int64, text []byte) error {
		l.take(e, text)
		return nil
	})
	return err
}

// take takes one line of an epoch's file into the index.
func (l *Ledger) take(e crypto.Epoch, text []byte) {
	line, c, ok := parseLine(text)
	if !ok {
		return
	}
	d, _ := DigestOf(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if line.Gone {
		delete(l.index, d)
		delete(l.verified, d)
	} else {
		entry := line.entry(c, e)
		if old, ok := l.index[d]; !ok || !endsBefore(e, old.Epoch) {
			l.index[d] = NewRecord(entry.Size, entry.Created, e)
		}
	}
}

// Indexed reports whether the index has an object. It does not read what was appended since the last
// CatchUp.
func (l *Ledger) Indexed(c cid.Cid) bool {
	d, ok := DigestOf(c)
	_, known := l.get(d)
	return ok && known
}

// Size returns how many objects the index has.
func (l *Ledger) Size() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.index)
}

// Lags reports whether the index lacks an object that ends with this epoch, or has an earlier end of
// it.
func (l *Ledger) Lags(c cid.Cid, e crypto.Epoch) bool {
	d, _ := DigestOf(c)
	rec, known := l.get(d)
	return !known || endsBefore(rec.Epoch, e)
}
