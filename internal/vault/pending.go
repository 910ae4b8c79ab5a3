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

	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

const (
	pendingPrefix = "batch-"
	// refusedLine is that of a batch that is to go, be it in the ledger or not.
	refusedLine = "refused"
)

// pendingDir is where the batches under way are written down, one file for each: the CIDs of what
// it stores, a line each, before the store makes them durable. The file is locked by the batch's
// process and removed when the batch is done, so one that nobody holds the lock of is what a crash
// has left, or a store that could not be reached to delete.
//
// The files are not synced. They survive a killed process, and that is enough: what a power failure
// takes of them costs the space of an object that no mail refers to.
type pendingDir string

func openPending(dir string) (pendingDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("open directory of pending batches: %w", err)
	}
	return pendingDir(dir), nil
}

func (p pendingDir) create() (*os.File, error) {
	return durable.CreateLocked(string(p), pendingPrefix+"*")
}

// Sweep deletes what batches have left that were never finished: their processes were killed, or
// the store could not be reached. It returns the objects that are gone now. What cannot be deleted
// is the next Sweep's. Batches under way, also those of other processes, are left alone.
func (v *Vault) Sweep(ctx context.Context) (gone []cid.Cid, err error) {
	if !durable.Locks {
		return nil, nil
	}
	entries, err := os.ReadDir(string(v.pending))
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), pendingPrefix) {
			continue
		}
		some, err := v.sweepBatch(ctx, filepath.Join(string(v.pending), entry.Name()))
		gone = append(gone, some...)
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep: %w", err))
		}
	}
	return gone, errors.Join(errs...)
}

func (v *Vault) sweepBatch(ctx context.Context, name string) (gone []cid.Cid, err error) {
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
	cids, refused, err := readPending(f)
	if err != nil {
		return nil, err
	}
	for _, c := range cids {
		if !refused {
			// In the ledger: its mail was passed on, or may have been.
			if _, promised, err := v.ledger.lookup(c); err != nil {
				return gone, err
			} else if promised {
				continue
			}
		}
		if err := v.store.Delete(ctx, c); err != nil {
			return gone, err
		}
		gone = append(gone, c)
	}
	return gone, durable.Remove(name)
}

// readPending reads what a batch has written. A line without its end was being written when the
// process ended, so its object was not stored.
func readPending(f *os.File) (cids []cid.Cid, isRefused bool, err error) {
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if lines.Text() == refusedLine {
			isRefused = true
		} else if c, err := link.ParseCID(lines.Text()); err == nil {
			cids = append(cids, c)
		}
	}
	return cids, isRefused, lines.Err()
}
