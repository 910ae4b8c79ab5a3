package vault

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

const ledgerSuffix = ".jsonl"

// ledger is the append-only record of what was stored: EPOCH.jsonl, one line for each object.
// Several processes append to it and read it. Each keeps an index in memory, and on a miss reads
// what was appended to the files. The directory must be on a local file system, or on one whose
// O_APPEND is as atomic.
type ledger struct {
	dir string

	mu     sync.RWMutex // never held during I/O
	index  map[digest]record
	synced map[crypto.Epoch]bool // files whose directory entry this process has synced

	scan    sync.Mutex             // held by the one goroutine that reads the files
	scans   atomic.Uint64          // how many scans have begun
	scanErr error                  // the result of the last scan
	read    map[crypto.Epoch]int64 // bytes of each file that are in index
}

// digest is the part in which the CIDs of objects differ.
type digest [32]byte

// record is what the ledger knows of an object. It is small: the index of a million objects takes
// about 150 MB.
type record struct {
	size  int64
	unix  int64 // created, in seconds
	epoch crypto.Epoch
}

func (r record) created() time.Time { return time.Unix(r.unix, 0).UTC() }

type ledgerLine struct {
	CID     string    `json:"cid"`
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
}

func openLedger(dir string) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &ledger{
		dir:    dir,
		index:  make(map[digest]record),
		read:   make(map[crypto.Epoch]int64),
		synced: make(map[crypto.Epoch]bool),
	}, nil
}

func (l *ledger) path(e crypto.Epoch) string { return filepath.Join(l.dir, string(e)+ledgerSuffix) }

// append writes the lines of one batch, and returns when they are on disk.
func (l *ledger) append(e crypto.Epoch, created time.Time, objects []stored) error {
	var lines []byte
	for _, o := range objects {
		line, err := json.Marshal(ledgerLine{o.cid.String(), o.size, created})
		if err != nil {
			return fmt.Errorf("append to ledger: %w", err)
		}
		lines = append(append(lines, line...), '\n')
	}
	f, err := os.OpenFile(l.path(e), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	err = errors.Join(appendSynced(f, lines), f.Close())
	if err == nil {
		err = l.syncName(e)
	}
	if err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	return nil
}

// syncName puts the file's name on disk. Another process may have created the file and not synced
// the directory yet.
func (l *ledger) syncName(e crypto.Epoch) error {
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

// appendSynced adds lines in one write, so that lines of two processes do not mix. It first ends a
// last line that a crash left unfinished.
func appendSynced(f *os.File, lines []byte) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if end > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	if _, err := f.Write(lines); err != nil {
		return err
	}
	return f.Sync()
}

// lookup finds an object, including one that another process has just committed. ok reports whether
// the object is in the ledger.
func (l *ledger) lookup(c cid.Cid) (rec record, ok bool, err error) {
	d, ok := digestOf(c)
	if !ok {
		return record{}, false, nil
	}
	if rec, ok = l.get(d); ok {
		return rec, true, nil
	}
	if err := l.catchUp(); err != nil {
		return record{}, false, fmt.Errorf("read ledger: %w", err)
	}
	rec, ok = l.get(d)
	return rec, ok, nil
}

func (l *ledger) get(d digest) (record, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	rec, ok := l.index[d]
	return rec, ok
}

// catchUp reads what was appended before it was called. Anybody can cause a miss, so a miss is
// cheap: it costs one stat for each file, and no hit waits for it. Concurrent misses share scans: a
// caller that waited while another scan began and ended has what it came for.
func (l *ledger) catchUp() error {
	begun := l.scans.Load()
	l.scan.Lock()
	defer l.scan.Unlock()
	if l.scans.Load() == begun {
		l.scans.Add(1)
		l.scanErr = l.refresh()
	}
	return l.scanErr
}

// digestOf returns the digest of an object's CID. It refuses other forms of CID, which may have the
// same digest.
func digestOf(c cid.Cid) (digest, bool) {
	if !c.Defined() {
		return digest{}, false
	}
	if _, err := link.ParseCID(c.String()); err != nil {
		return digest{}, false
	}
	h := c.Hash()
	return digest(h[len(h)-len(digest{}):]), true
}

func (l *ledger) refresh() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ledgerSuffix)
		epoch, err := crypto.ParseEpoch(name)
		if !ok || err != nil {
			continue
		}
		// A file may be removed during the scan; what was read of it stays known.
		if err := l.follow(entry, epoch); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (l *ledger) follow(entry fs.DirEntry, e crypto.Epoch) error {
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

// tail reads the complete lines that were added. An incomplete line is being written, or was left
// by a crash, and is read again once it has its end. A malformed line belongs to a mail that was
// never passed on.
func (l *ledger) tail(e crypto.Epoch) error {
	f, err := os.Open(l.path(e))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(l.read[e], io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
		l.read[e] += int64(len(line))
		var parsed ledgerLine
		if json.Unmarshal(line, &parsed) != nil {
			continue
		}
		c, err := link.ParseCID(parsed.CID)
		if err != nil || parsed.Size < 0 {
			continue
		}
		d, _ := digestOf(c)
		l.mu.Lock()
		l.index[d] = record{parsed.Size, parsed.Created.Unix(), e}
		l.mu.Unlock()
	}
}
