package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

const (
	pendingPrefix = "batch-"
	// refusedLine marks a batch whose objects must go even if they are in the ledger.
	refusedLine = "refused"
	// committedLine follows the objects that are in the ledger. They stay also if the ledger is
	// lost.
	committedLine = "committed"
	// doomedPrefix begins the line of an object whose key was about to be destroyed: CID CORE EPOCH
	// follow. Only if it was, the object must go.
	doomedPrefix = "destroyed "
	// identityPrefix begins the first line, which tells a record from its copies.
	identityPrefix = "record "
)

// pendingDir holds a record of each batch that is not done: a file of the CIDs that the batch
// stores, one a line. A line is written before the store makes its object durable. The batch's
// process holds a lock on the file, and removes the file when the batch is done. A file without a
// lock was therefore left by a crash, or by a batch that could not reach the store to delete.
//
// The first line tells a record from its copy in a backup. When the copy comes back, mails have been
// passed on of which it knows nothing, and the store may have their objects.
//
// The files are not synced: they survive a killed process, but a power failure may lose them. Then
// the objects stay in the store although no mail links to them.
type pendingDir string

func openPending(dir string) (pendingDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("open directory of pending batches: %w", err)
	}
	return pendingDir(dir), nil
}

func (p pendingDir) create() (*os.File, error) {
	f, err := durable.CreateLocked(string(p), pendingPrefix+"*")
	if err != nil {
		return nil, err
	}
	line, err := identityLine(f)
	if err == nil {
		_, err = f.WriteString(line + "\n")
	}
	if err != nil {
		return nil, errors.Join(err, durable.Remove(f.Name()), f.Close())
	}
	return f, nil
}

// identityLine returns the first line of a record that is not a copy.
func identityLine(f *os.File) (string, error) {
	id, err := durable.Identity(f)
	return identityPrefix + id, err
}

// Recover deletes the objects of batches whose process was killed, or could not reach the store to
// delete. It returns the objects that it deleted. The next Recover tries the others again. Batches
// in progress, in this process or another, are not touched.
func (v *Vault) Recover(ctx context.Context) (gone []cid.Cid, err error) {
	if !durable.Locks {
		return nil, nil
	}
	entries, err := os.ReadDir(string(v.pending))
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), pendingPrefix) {
			continue
		}
		some, err := v.recoverBatch(ctx, filepath.Join(string(v.pending), entry.Name()))
		gone = append(gone, some...)
		if err != nil {
			errs = append(errs, fmt.Errorf("recover: %w", err))
		}
	}
	return gone, errors.Join(errs...)
}

func (v *Vault) recoverBatch(ctx context.Context, name string) (gone []cid.Cid, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if !durable.TryLock(f) {
		return nil, nil
	}
	record, err := readPending(f)
	if err != nil {
		return nil, err
	}
	for _, c := range record.doomed() {
		rec, promised, err := v.ledger.Lookup(c)
		if err != nil {
			return gone, err
		} else if promised && !record.refused {
			continue // its mail may have been passed on
		}
		if err := v.store.Delete(ctx, c); err != nil {
			return gone, err
		}
		if promised {
			if err := v.ledger.Forget(ledger.Entry{CID: c, KID: crypto.KID{Epoch: rec.Epoch}}); err != nil {
				return gone, err
			}
		}
		gone = append(gone, c)
	}
	for _, e := range record.victims {
		if destroyed, err := v.Destroyed(e); err != nil {
			return gone, err
		} else if !destroyed {
			continue // the process was killed before, or the key file could not be written
		}
		if err := v.store.Delete(ctx, e.CID); err != nil {
			return gone, err
		}
		gone = append(gone, e.CID)
	}
	return gone, durable.Remove(name)
}

// Destroyed reports whether nothing opens an object any more: neither its own epoch, nor one that it
// was extended into.
func (v *Vault) Destroyed(e ledger.Entry) (bool, error) {
	done, err := v.keys.Destroyed(e.KID.Epoch, e.Core)
	if err != nil || !done {
		return false, err
	}
	// A record that cannot be used is not destroyed: it may be mended.
	_, _, _, err = v.keys.Extension(e.CID, e.Core, e.KID.Epoch)
	return errors.Is(err, keyring.ErrNoExtension), nil
}

// pendingRecord is what a batch's record says.
type pendingRecord struct {
	original        bool // and not a copy
	open, committed []cid.Cid
	refused         bool
	victims         []ledger.Entry // CID, Core and KID.Epoch of objects that go once their keys are destroyed
}

// doomed returns the objects that must go, unless the ledger has them and the batch is not refused.
func (r pendingRecord) doomed() []cid.Cid {
	if !r.original {
		return nil
	}
	if r.refused {
		return append(r.committed, r.open...)
	}
	return r.open
}

// readPending reads a record. It skips an incomplete line: the process ended while it wrote
// the line, so the object was not stored.
func readPending(f *os.File) (r pendingRecord, err error) {
	identity, err := identityLine(f)
	if err != nil {
		return r, err
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		switch lines.Text() {
		case identity:
			r.original = true
		case refusedLine:
			r.refused = true
		case committedLine:
			r.committed, r.open = append(r.committed, r.open...), nil
		default:
			if c, err := link.ParseCID(lines.Text()); err == nil {
				r.open = append(r.open, c)
			} else if e, ok := parseVictim(lines.Text()); ok && r.original {
				r.victims = append(r.victims, e)
			}
		}
	}
	return r, lines.Err()
}

// victimLine returns the line for an object whose key is about to be destroyed.
func victimLine(e ledger.Entry) string {
	return doomedPrefix + e.CID.String() + " " + e.Core.String() + " " + string(e.KID.Epoch) + "\n"
}

func parseVictim(line string) (e ledger.Entry, ok bool) {
	words := strings.Split(line, " ")
	if !strings.HasPrefix(line, doomedPrefix) || len(words) != 4 {
		return e, false
	}
	c, err := link.ParseCID(words[1])
	core, coreErr := link.ParseCID(words[2])
	epoch, epochErr := crypto.ParseEpoch(words[3])
	e = ledger.Entry{CID: c, Core: core, KID: crypto.KID{Epoch: epoch}}
	return e, err == nil && coreErr == nil && epochErr == nil
}

// Pending returns the objects of all batches that are not committed, in this process or another, and
// those of interrupted mails that Recover will delete.
func (v *Vault) Pending() (map[cid.Cid]bool, error) { return v.pending.all() }

// Abandoned returns the names of the records of batches whose process is gone.
func (v *Vault) Abandoned() ([]string, error) { return v.pending.abandoned() }

// all returns the objects in all records that are not committed.
func (p pendingDir) all() (map[cid.Cid]bool, error) {
	objects := make(map[cid.Cid]bool)
	err := p.each(func(f *os.File) error {
		record, err := readPending(f)
		for _, c := range record.doomed() {
			objects[c] = true
		}
		return err
	})
	return objects, err
}

// abandoned returns the names of the records whose process is gone.
func (p pendingDir) abandoned() (names []string, err error) {
	if !durable.Locks {
		return nil, nil
	}
	err = p.each(func(f *os.File) error {
		if durable.TryLock(f) {
			names = append(names, filepath.Base(f.Name()))
		}
		return nil
	})
	return names, err
}

// each calls take for each record that is still there, and closes it.
func (p pendingDir) each(take func(*os.File) error) error {
	entries, err := os.ReadDir(string(p))
	if err != nil {
		return fmt.Errorf("read the records of pending mails: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), pendingPrefix) {
			continue
		}
		f, err := os.Open(filepath.Join(string(p), entry.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("read the records of pending mails: %w", err)
		}
		if err := errors.Join(take(f), f.Close()); err != nil {
			return fmt.Errorf("read the records of pending mails: %w", err)
		}
	}
	return nil
}

// Delete calls destroy, which must destroy the keys of objects and returns those of which it did, and
// then deletes these. Its error does not keep the others from being deleted. Objects that the store
// could not delete, or that were left because ctx was canceled, are deleted by a later Recover.
func (v *Vault) Delete(ctx context.Context, entries []ledger.Entry, destroy func() (done []ledger.Entry, err error)) (err error) {
	if len(entries) == 0 {
		return nil
	}
	// The record stands first, so that a process that is killed leaves no object behind. It dooms only
	// those whose keys are destroyed by then: the others can still be given back.
	record, err := v.pending.create()
	if err != nil {
		return fmt.Errorf("record what is destroyed: %w", err)
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	var lines strings.Builder
	for _, e := range entries {
		lines.WriteString(victimLine(e))
	}
	if _, err := record.WriteString(lines.String()); err != nil {
		return errors.Join(fmt.Errorf("record what is destroyed: %w", err), durable.Remove(record.Name()))
	}
	done, failed := destroy()
	for _, e := range done {
		if err := v.store.Delete(ctx, e.CID); err != nil {
			return errors.Join(failed, fmt.Errorf("delete %s, whose key is destroyed: %w", e.CID, err))
		}
	}
	return errors.Join(failed, durable.Remove(record.Name()))
}
