package vault

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/hex"
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

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

const ledgerSuffix = ".jsonl"

// ledger is the append-only list of what was stored: EPOCH.jsonl, one line for each object. It is
// there for listing and deleting. An object's origin decides whether the object is served, so a lost
// ledger loses no link, and fsck makes it again.
//
// Several processes append to it and read it. Each keeps an index in memory, and on a miss reads
// what was appended to the files. On the directory's file system, O_APPEND must be atomic.
type ledger struct {
	dir string

	mu       sync.RWMutex // never held during I/O
	index    map[digest]record
	verified map[digest]record     // objects in no file whose origin this process has verified
	synced   map[crypto.Epoch]bool // files whose directory entry this process has synced

	scan    sync.Mutex             // held by the one goroutine that reads the files
	scans   atomic.Uint64          // how many scans have begun
	scanErr error                  // the result of the last scan
	read    map[crypto.Epoch]int64 // bytes of each file that are in index
}

// maxVerified bounds the objects that are remembered without a line in a file: about 16 MB.
const maxVerified = 100_000

type digest [32]byte // the part in which the CIDs of objects differ

// Entry is an object in the ledger.
type Entry struct {
	CID, Core cid.Cid
	KID       crypto.KID
	Epoch     crypto.Epoch // whose end is the object's: that of KID, unless the object was extended
	Size      int64        // of the attachment, in bytes
	Created   time.Time    // zero: unknown, as fsck has no key to read it
	Mail      string       // the same for all objects of a mail: 16 random hex digits; "": unknown
	Kind      Kind
	Gone      bool // the object was deleted; only [Vault.Entries] returns such entries
}

// Kind says what an object is to the people who get its link.
type Kind string

// The kinds of objects. A line that fsck made has none.
const (
	KindFile     Kind = "file"
	KindList     Kind = "list"     // of the files of a mail
	KindOriginal Kind = "original" // what a restored mail needs besides its files
)

// kindOf returns the kind of an object whose metadata has this media type.
func kindOf(mediaType string) Kind {
	switch mediaType {
	case filelist.Type:
		return KindList
	case skeleton.Type:
		return KindOriginal
	}
	return KindFile
}

// newMailID returns the id that the objects of one mail share in the ledger.
func newMailID() (string, error) {
	var id [8]byte
	_, err := io.ReadFull(rand.Reader, id[:]) // unlike rand.Read, it returns the error of a test's reader
	return hex.EncodeToString(id[:]), err
}

// record is an object in the index. An index of a million objects takes about 160 MB.
type record struct {
	size  int64
	begin int64        // created, in seconds since 1970
	epoch crypto.Epoch // whose end is the object's
}

func newRecord(size int64, created time.Time, e crypto.Epoch) record {
	return record{size: size, begin: created.Unix(), epoch: e}
}

func (r record) created() time.Time { return time.Unix(r.begin, 0).UTC() }

// ledgerLine has no end: the name of the epoch says it.
type ledgerLine struct {
	CID     string     `json:"cid"`
	Core    string     `json:"core,omitempty"`
	Size    int64      `json:"size,omitempty"`
	Created *time.Time `json:"created,omitempty"`
	Mail    string     `json:"mail,omitempty"`
	Kind    Kind       `json:"kind,omitempty"`
	Mode    string     `json:"mode,omitempty"` // "link" or absent
	// From is the epoch in which an extended object was stored: that of its kid.
	From crypto.Epoch `json:"from,omitempty"`
	// Gone takes back the lines before that have this CID. Only CID is there besides.
	Gone bool `json:"gone,omitempty"`

	core cid.Cid // Core, parsed
}

const modeLink = "link"

func lineOf(e Entry) ledgerLine {
	l := ledgerLine{CID: e.CID.String(), Core: e.Core.String(), Size: e.Size, Mail: e.Mail, Kind: e.Kind}
	if !e.Created.IsZero() {
		l.Created = &e.Created
	}
	if e.KID.Link {
		l.Mode = modeLink
	}
	if e.file() != e.KID.Epoch {
		l.From = e.KID.Epoch
	}
	return l
}

// file returns the epoch in whose file the entry stands.
func (e Entry) file() crypto.Epoch { return cmp.Or(e.Epoch, e.KID.Epoch) }

// entry returns what the line of an object says.
func (l ledgerLine) entry(c cid.Cid, e crypto.Epoch) Entry {
	kid := crypto.KID{Epoch: cmp.Or(l.From, e), Link: l.Mode == modeLink}
	entry := Entry{CID: c, Core: l.core, KID: kid, Epoch: e, Size: l.Size, Mail: l.Mail, Kind: l.Kind}
	if l.Created != nil {
		entry.Created = *l.Created
	}
	return entry
}

func openLedger(dir string) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &ledger{
		dir: dir, index: make(map[digest]record), verified: make(map[digest]record),
		read: make(map[crypto.Epoch]int64), synced: make(map[crypto.Epoch]bool),
	}, nil
}

func (l *ledger) path(e crypto.Epoch) string { return filepath.Join(l.dir, string(e)+ledgerSuffix) }

// append adds entries, each to the file of its Epoch, or else to that of its KID. It returns when
// they are on disk.
func (l *ledger) append(entries ...Entry) error {
	files := make(map[crypto.Epoch][]ledgerLine)
	for _, e := range entries {
		files[e.file()] = append(files[e.file()], lineOf(e))
	}
	return l.appendFiles(files)
}

// forget takes entries back, also those from which they were extended. It returns when that is on
// disk.
func (l *ledger) forget(entries ...Entry) error {
	files := make(map[crypto.Epoch][]ledgerLine)
	for _, e := range entries {
		gone := ledgerLine{CID: e.CID.String(), Gone: true}
		files[e.file()] = append(files[e.file()], gone)
		if e.file() != e.KID.Epoch {
			files[e.KID.Epoch] = append(files[e.KID.Epoch], gone)
		}
	}
	return l.appendFiles(files)
}

func (l *ledger) appendFiles(files map[crypto.Epoch][]ledgerLine) error {
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

func (l *ledger) appendLines(e crypto.Epoch, lines []byte) error {
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

// lookup finds an object in the files, also if another process has just committed it.
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

// known is lookup, but finds the objects of remember too.
func (l *ledger) known(c cid.Cid) (rec record, ok bool, err error) {
	if d, isObject := digestOf(c); isObject {
		l.mu.RLock()
		rec, ok = l.verified[d]
		l.mu.RUnlock()
	}
	if ok {
		return rec, true, nil
	}
	return l.lookup(c)
}

// remember makes known find an object whose origin was verified, until the process ends or others
// take its place.
func (l *ledger) remember(c cid.Cid, rec record) {
	d, ok := digestOf(c)
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
	d, ok := strings.CutPrefix(c.KeyString(), objectPrefix)
	if !ok || len(d) != len(digest{}) {
		return digest{}, false
	}
	return digest([]byte(d)), true
}

// objectPrefix begins the bytes of an object's CID: version 1, dag-pb, sha2-256, 32 bytes.
const objectPrefix = "\x01\x70\x12\x20"

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

// files returns the ledger's files. A ledger that was lost as a whole has none.
func (l *ledger) files() (map[crypto.Epoch]fs.DirEntry, error) {
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

// epochs returns the epochs that have a file, sorted.
func (l *ledger) epochs() ([]crypto.Epoch, error) {
	files, err := l.files()
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return slices.Sorted(maps.Keys(files)), nil
}

// readable returns an error if a file cannot be opened.
func (l *ledger) readable() error {
	epochs, err := l.epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		f, err := os.Open(l.path(e))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed after its end
		} else if err != nil {
			return fmt.Errorf("cannot read the ledger, and until then no link opens: %w", durable.WithRemedy(err, l.dir))
		}
		_ = f.Close() // nothing was read
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

// tail reads the lines that were added.
func (l *ledger) tail(e crypto.Epoch) (err error) {
	l.read[e], err = l.lines(e, l.read[e], func(_ int64, text []byte) error {
		l.take(e, text)
		return nil
	})
	return err
}

// take takes one line of an epoch's file into the index.
func (l *ledger) take(e crypto.Epoch, text []byte) {
	line, c, ok := parseLine(text)
	if !ok {
		return
	}
	d, _ := digestOf(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if line.Gone {
		delete(l.index, d)
		delete(l.verified, d)
	} else {
		entry := line.entry(c, e)
		if old, ok := l.index[d]; !ok || !endsBefore(e, old.epoch) {
			l.index[d] = newRecord(entry.Size, entry.Created, e)
		}
	}
}

// endsBefore reports whether an epoch ends before another one.
func endsBefore(e, other crypto.Epoch) bool {
	if e == other || e.End().IsZero() {
		return false
	}
	return other.End().IsZero() || e.End().Before(other.End())
}

// parseLine returns a line and its CID, or false for a malformed line: it belongs to a mail that was
// not passed on.
func parseLine(text []byte) (line ledgerLine, c cid.Cid, ok bool) {
	if json.Unmarshal(text, &line) != nil || line.Size < 0 {
		return line, c, false
	}
	c, err := link.ParseCID(line.CID)
	if err == nil && !line.Gone {
		line.core, err = link.ParseCID(line.Core)
	}
	if err == nil && line.From != "" {
		_, err = crypto.ParseEpoch(string(line.From))
	}
	return line, c, err == nil
}

// lines reads the complete lines of a file from an offset on, each with its own offset, until take
// returns an error. It returns where the next line will begin. An incomplete line is being written
// or was left by a crash, and is read once it is ended.
func (l *ledger) lines(e crypto.Epoch, from int64, take func(at int64, text []byte) error) (next int64, err error) {
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
