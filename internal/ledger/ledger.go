package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

const ledgerSuffix = ".jsonl"

// Ledger is the append-only list of what was stored: EPOCH.jsonl, one line for each object. It is
// there for listing and deleting. An object's origin decides whether the object is served, so a lost
// ledger loses no link, and fsck makes it again.
//
// Several processes append to it and read it. Each keeps an index in memory, and on a miss reads
// what was appended to the files. On the directory's file system, O_APPEND must be atomic.
type Ledger struct {
	dir string

	mu       sync.RWMutex // never held during I/O
	index    map[Digest]Record
	verified map[Digest]Record     // objects in no file whose origin this process has verified
	synced   map[crypto.Epoch]bool // files whose directory entry this process has synced

	scan    sync.Mutex             // held by the one goroutine that reads the files
	scans   atomic.Uint64          // how many scans have begun
	scanErr error                  // the result of the last scan
	read    map[crypto.Epoch]int64 // bytes of each file that are in index
}

// Open opens the ledger in dir, and makes the directory if there is none.
func Open(dir string) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &Ledger{
		dir: dir, index: make(map[Digest]Record), verified: make(map[Digest]Record),
		read: make(map[crypto.Epoch]int64), synced: make(map[crypto.Epoch]bool),
	}, nil
}

func (l *Ledger) path(e crypto.Epoch) string { return filepath.Join(l.dir, string(e)+ledgerSuffix) }

// Append adds entries, each to the file of its Epoch, or else to that of its KID. It returns when
// they are on disk.
func (l *Ledger) Append(entries ...Entry) error {
	files := make(map[crypto.Epoch][]jsonLine)
	for _, e := range entries {
		files[e.EndEpoch()] = append(files[e.EndEpoch()], lineOf(e))
	}
	return l.appendFiles(files)
}

// Forget takes entries back, also those from which they were extended. It returns when that is on
// disk.
func (l *Ledger) Forget(entries ...Entry) error {
	files := make(map[crypto.Epoch][]jsonLine)
	for _, e := range entries {
		gone := jsonLine{CID: e.CID.String(), Gone: true}
		files[e.EndEpoch()] = append(files[e.EndEpoch()], gone)
		if e.EndEpoch() != e.KID.Epoch {
			files[e.KID.Epoch] = append(files[e.KID.Epoch], gone)
		}
	}
	return l.appendFiles(files)
}

func (l *Ledger) appendFiles(files map[crypto.Epoch][]jsonLine) error {
	for _, e := range slices.Sorted(maps.Keys(files)) {
		var text []byte
		for _, line := range files[e] {
			one, err := json.Marshal(line)
			if err != nil {
				return fmt.Errorf("append to ledger: %w", err)
			}
			text = append(append(text, one...), '\n')
		}
		if err := l.appendLines(e, text); err != nil {
			return fmt.Errorf("append to ledger: %w", err)
		}
	}
	return nil
}

func (l *Ledger) appendLines(e crypto.Epoch, lines []byte) error {
	f, err := os.OpenFile(l.path(e), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(durable.AppendSynced(f, lines), f.Close()); err != nil {
		return err
	}
	return l.syncName(e)
}

// syncName syncs the directory once for each file: another process may not have synced it yet.
func (l *Ledger) syncName(e crypto.Epoch) error {
	l.mu.RLock()
	done := l.synced[e]
	l.mu.RUnlock()
	if done {
		return nil
	}
	if err := durable.SyncDir(l.dir); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced[e] = true
	return nil
}

// files returns the ledger's files. A ledger that was lost as a whole has none.
func (l *Ledger) files() (map[crypto.Epoch]fs.DirEntry, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := make(map[crypto.Epoch]fs.DirEntry)
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ledgerSuffix)
		if epoch, err := crypto.ParseEpoch(name); ok && err == nil {
			files[epoch] = entry
		}
	}
	return files, nil
}

// Epochs returns the epochs that have a file, sorted.
func (l *Ledger) Epochs() ([]crypto.Epoch, error) {
	files, err := l.files()
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return slices.Sorted(maps.Keys(files)), nil
}

// Readable returns an error if a file cannot be opened.
func (l *Ledger) Readable() error {
	epochs, err := l.Epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		f, err := os.Open(l.path(e))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed after its end
		} else if err != nil {
			return fmt.Errorf("cannot read the ledger; links open all the same, but new files for this epoch are refused, and detach list, sweep and fsck fail: %w", durable.WithRemedy(err, l.dir))
		}
		_ = f.Close() // nothing was read
	}
	return nil
}

// lines reads the complete lines of a file from an offset on, each with its own offset, until take
// returns an error. It returns where the next line will begin. An incomplete line is being written
// or was left by a crash, and is read once it is ended.
func (l *Ledger) lines(e crypto.Epoch, from int64, take func(at int64, text []byte) error) (next int64, err error) {
	f, err := os.Open(l.path(e))
	if err != nil {
		return from, durable.WithRemedy(err, l.dir)
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return from, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return from, err
		}
		if err := take(from, line); err != nil {
			return from, err
		}
		from += int64(len(line))
	}
}

// Newest returns when the newest object in the ledger was stored; zero if there is none.
func (l *Ledger) Newest() (newest time.Time, err error) {
	epochs, err := l.Epochs()
	if err != nil {
		return newest, err
	}
	for _, e := range epochs {
		_, err := l.lines(e, 0, func(_ int64, text []byte) error {
			if line, _, ok := parseLine(text); ok && line.Created != nil && line.Created.After(newest) {
				newest = *line.Created
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return newest, fmt.Errorf("read ledger: %w", err)
		}
	}
	return newest, nil
}
