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
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

const (
	pendingPrefix = "batch-"
	// refusedLine marks a batch whose objects must go even if they are in the ledger.
	refusedLine = "refused"
	// committedLine follows the objects that are in the ledger. They stay also if the ledger is
	// lost.
	committedLine = "committed"
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
		rec, promised, err := v.ledger.lookup(c)
		if err != nil {
			return gone, err
		} else if promised && !record.refused {
			continue // its mail may have been passed on
		}
		if err := v.store.Delete(ctx, c); err != nil {
			return gone, err
		}
		if promised {
			if err := v.ledger.forget(Entry{CID: c, KID: crypto.KID{Epoch: rec.epoch}}); err != nil {
				return gone, err
			}
		}
		gone = append(gone, c)
	}
	return gone, durable.Remove(name)
}

// pendingRecord is what a batch's record says.
type pendingRecord struct {
	original        bool // and not a copy
	open, committed []cid.Cid
	refused         bool
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

// readPending reads a batch's record. It skips an incomplete line: the process ended while it wrote
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
			}
		}
	}
	return r, lines.Err()
}

// writePending records objects that must be deleted, whatever the ledger says.
func writePending(f *os.File, entries []Entry) error {
	var text strings.Builder
	text.WriteString(refusedLine + "\n")
	for _, e := range entries {
		text.WriteString(e.CID.String() + "\n")
	}
	_, err := f.WriteString(text.String())
	return err
}
