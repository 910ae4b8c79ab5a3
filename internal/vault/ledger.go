package vault

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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
// what was appended to the files. On the directory's file system, O_APPEND must be atomic.
type ledger struct {
	dir  string
	mode Mode // of the objects that this process appends

	mu     sync.RWMutex // never held during I/O
	index  map[digest]record
	synced map[crypto.Epoch]bool // files whose directory entry this process has synced

	scan    sync.Mutex             // held by the one goroutine that reads the files
	scans   atomic.Uint64          // how many scans have begun
	scanErr error                  // the result of the last scan
	read    map[crypto.Epoch]int64 // bytes of each file that are in index

	asking  sync.Mutex
	demands map[crypto.Epoch]demand
}

type digest [32]byte // the part in which the CIDs of objects differ

// record is an object in the index. An index of a million objects takes about 160 MB.
type record struct {
	size  int64
	begin int64 // created, in seconds since 1970
	end   int64 // expires, likewise; 0: never
	epoch crypto.Epoch
}

func newRecord(size int64, created, expires time.Time, e crypto.Epoch) record {
	r := record{size: size, begin: created.Unix(), epoch: e}
	if !expires.IsZero() {
		r.end = expires.Unix()
	}
	return r
}

func (r record) created() time.Time { return time.Unix(r.begin, 0).UTC() }

// expires returns zero for never.
func (r record) expires() time.Time {
	if r.end == 0 {
		return time.Time{}
	}
	return time.Unix(r.end, 0).UTC()
}

// ledgerLine has the end that is sealed into the object's metadata too. So the end is known without
// the key, and a changed retention moves no end that a page or a mail has promised.
type ledgerLine struct {
	CID     string     `json:"cid"`
	Size    int64      `json:"size"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires"` // nil: never
	// Mode is "link" for an object that needs no secret, and otherwise absent. Without it, an epoch
	// in which everything is of mode "link" would seem to have lost its secret.
	Mode string `json:"mode,omitempty"`
}

func (l ledgerLine) record(e crypto.Epoch) record {
	if l.Expires == nil {
		return newRecord(l.Size, l.Created, time.Time{}, e)
	}
	return newRecord(l.Size, l.Created, *l.Expires, e)
}

func openLedger(dir string, mode Mode) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &ledger{
		dir: dir, mode: mode, index: make(map[digest]record), read: make(map[crypto.Epoch]int64), synced: make(map[crypto.Epoch]bool),
		demands: make(map[crypto.Epoch]demand),
	}, nil
}

func (l *ledger) path(e crypto.Epoch) string { return filepath.Join(l.dir, string(e)+ledgerSuffix) }

// append writes the lines of one batch, and returns when they are on disk. If expires is zero, the
// objects never expire.
func (l *ledger) append(e crypto.Epoch, created, expires time.Time, objects []stored) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("append to ledger: %w", err)
		}
	}()
	var end *time.Time
	if !expires.IsZero() {
		end = &expires
	}
	mode := ""
	if l.mode == LinkOnly {
		mode = crypto.LinkKID
	}
	var lines []byte
	for _, o := range objects {
		line, err := json.Marshal(ledgerLine{o.cid.String(), o.size, created, end, mode})
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	f, err := os.OpenFile(l.path(e), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(appendSynced(f, lines), f.Close()); err != nil {
		return err
	}
	return l.syncName(e)
}

// syncName syncs the directory once for each file: another process may not have synced it yet.
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

// appendSynced adds lines in one write, so that lines of two processes do not mix. A line that a
// crash left unfinished is ended first.
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

// lookup finds an object, also if another process has just committed it. ok: it is in the ledger.
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

// catchUp reads what was appended before it was called. Any client can cause a miss, so a miss is
// cheap: it costs one stat for each file, and hits do not wait for it. Concurrent misses share
// scans: if a scan began and ended while the caller waited, the caller needs no other.
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

// digestOf returns the digest of an object's CID. ok is false for CIDs of other forms.
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
	entries, err := l.files()
	if err != nil {
		return err
	}
	for epoch, entry := range entries {
		// A file may be removed during the scan. The index keeps what was read from it.
		if err := l.follow(entry, epoch); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// files returns the ledger's files.
func (l *ledger) files() (map[crypto.Epoch]fs.DirEntry, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
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

// tail reads the lines that were added.
func (l *ledger) tail(e crypto.Epoch) (err error) {
	l.read[e], err = l.lines(e, l.read[e], func(d digest, line ledgerLine) {
		l.mu.Lock()
		l.index[d] = line.record(e)
		l.mu.Unlock()
	})
	return err
}

// lines reads the complete lines of a file from an offset on, and returns where the next one will
// begin. An incomplete line is being written or was left by a crash, and is read once it is ended.
// A malformed line belongs to a mail that was not passed on.
func (l *ledger) lines(e crypto.Epoch, from int64, take func(digest, ledgerLine)) (next int64, err error) {
	f, err := os.Open(l.path(e))
	if err != nil {
		return from, err
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
		from += int64(len(line))
		var parsed ledgerLine
		if json.Unmarshal(line, &parsed) != nil {
			continue
		}
		c, err := link.ParseCID(parsed.CID)
		if err != nil || parsed.Size < 0 {
			continue
		}
		d, _ := digestOf(c)
		take(d, parsed)
	}
}

// demand says whether the objects of an epoch need the epoch's secret.
type demand struct {
	read int64 // bytes of the file that are considered here
	any  bool  // at least one object of mode "split" was stored
	end  int64 // the last end of them, in seconds since 1970; math.MaxInt64: never
}

// at reports whether the secret is still needed at a time: an object that has not expired needs it.
func (d demand) at(t time.Time) bool { return d.any && t.Unix() < d.end }

func (d *demand) add(line ledgerLine) {
	if line.Mode == crypto.LinkKID {
		return
	}
	d.any = true
	if line.Expires == nil {
		d.end = math.MaxInt64
	} else {
		d.end = max(d.end, line.Expires.Unix())
	}
}

// demand reads what was appended to an epoch's file since the last call. Without the file, nothing
// needs the secret: so an operator can give up a ledger.
func (l *ledger) demand(e crypto.Epoch) (demand, error) {
	l.asking.Lock()
	defer l.asking.Unlock()
	info, err := os.Stat(l.path(e))
	if errors.Is(err, fs.ErrNotExist) {
		delete(l.demands, e)
		return demand{}, nil
	} else if err != nil {
		return demand{}, fmt.Errorf("read ledger: %w", err)
	}
	d := l.demands[e]
	if info.Size() < d.read {
		d = demand{} // the file was replaced
	}
	if d.read, err = l.lines(e, d.read, func(_ digest, line ledgerLine) { d.add(line) }); err != nil {
		return demand{}, fmt.Errorf("read ledger: %w", err)
	}
	l.demands[e] = d
	return d, nil
}
