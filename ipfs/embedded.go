package ipfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"
)

const (
	// flushEvery is how much is written before the disk is told to begin with it. Otherwise the
	// sync at the end, while the mail's sender is waiting, would have the whole file to write.
	flushEvery = 8 << 20
	// maxIndexes bounds the indexes kept for objects read lately: 24 bytes for each MiB of them.
	maxIndexes = 256

	tempPrefix, tempSuffix = "put-", ".tmp"
)

// Embedded is the Store that needs no node: one CARv1 file for each object in one directory,
// CID.car. A file under that name is whole. While it is being written it is put-*.tmp, locked by
// its writer; one that nobody holds the lock of is what a crash has left.
//
// Several processes may share the directory.
type Embedded struct {
	dir      string
	readOnly bool
	indexes  *lru.Cache[cid.Cid, *index]
}

var errReadOnly = errors.New("it is open for reading only")

// OpenEmbedded opens the store in dir, makes the directory if it is not there, and removes what
// crashed writers have left.
func OpenEmbedded(dir string) (*Embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unavailable("open store", err)
	}
	// The directory's own name must outlive a power failure, too.
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, unavailable("open store", err)
	}
	if err := clean(dir); err != nil {
		return nil, unavailable("clean store", err)
	}
	return newEmbedded(dir, false)
}

// ReadEmbedded opens the store in dir for who only reads: somebody else's, a copy, a snapshot. Nothing
// in the directory changes, and one that is not there is an error. Put, Delete and Check fail.
func ReadEmbedded(dir string) (*Embedded, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, unavailable("open store", err)
	}
	return newEmbedded(dir, true)
}

func newEmbedded(dir string, readOnly bool) (*Embedded, error) {
	indexes, err := lru.New[cid.Cid, *index](maxIndexes)
	if err != nil {
		return nil, err
	}
	return &Embedded{dir: dir, readOnly: readOnly, indexes: indexes}, nil
}

// clean removes what crashed writers have left.
func clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), tempPrefix) || !strings.HasSuffix(entry.Name(), tempSuffix) {
			continue
		}
		if err := removeAbandoned(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeAbandoned removes a temporary file unless its writer lives.
func removeAbandoned(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	if !tryLock(f) {
		return nil
	}
	// The writer may have finished before we got the lock: then the name is gone.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (e *Embedded) path(root cid.Cid) string {
	return filepath.Join(e.dir, root.String()+".car")
}

// Put implements Store. The name is not kept: the file is its own pin.
func (e *Embedded) Put(ctx context.Context, name string, build func(add AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	w, err := e.create()
	if err != nil {
		return cid.Undef, err
	}
	defer w.discard()
	root, err := build(func(b Block) error { return w.add(ctx, b) })
	if err != nil {
		return cid.Undef, err
	}
	if err := w.commit(ctx, root); err != nil {
		return cid.Undef, err
	}
	return root, nil
}

// Open implements Store. It reads the CAR's section heads, unless it has done so lately.
func (e *Embedded) Open(ctx context.Context, root cid.Cid) (Blocks, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, err := os.Open(e.path(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: object %s", ErrNotFound, root)
	} else if err != nil {
		return nil, unavailable("open object", err)
	}
	idx, err := e.index(f, root)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &carFile{f: f, index: idx}, nil
}

func (e *Embedded) index(f *os.File, root cid.Cid) (*index, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, unavailable("open object", err)
	}
	if idx, ok := e.indexes.Get(root); ok && idx.of(info) {
		return idx, nil
	}
	idx, err := scan(f, info, root)
	if err != nil {
		return nil, err
	}
	e.indexes.Add(root, idx)
	return idx, nil
}

// Delete implements Store. Readers that have the object open go on reading.
func (e *Embedded) Delete(ctx context.Context, root cid.Cid) error {
	if e.readOnly {
		return unavailable("delete object", errReadOnly)
	}
	e.indexes.Remove(root)
	err := os.Remove(e.path(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(e.dir)
	}
	if err != nil {
		return unavailable("delete object", err)
	}
	return nil
}

// Check implements Store: a file is written, synced and removed.
func (e *Embedded) Check(ctx context.Context) error {
	w, err := e.create()
	if err != nil {
		return err
	}
	defer w.discard()
	if err := w.add(ctx, newBlock(cid.Raw, nil)); err != nil {
		return err
	}
	return w.flush()
}

// Close implements Store.
func (e *Embedded) Close() error {
	e.indexes.Purge()
	return nil
}

// carTemp is a CAR that is being written.
type carTemp struct {
	store   *Embedded
	f       *os.File
	buf     *bufio.Writer
	car     *carWriter
	flushed uint64 // bytes of blocks that the disk has been told to write
	done    bool
	err     error // the first failure: build may have ignored it
}

func (e *Embedded) create() (*carTemp, error) {
	if e.readOnly {
		return nil, unavailable("create object", errReadOnly)
	}
	f, err := createLocked(e.dir)
	if err != nil {
		return nil, unavailable("create object", err)
	}
	buf := bufio.NewWriterSize(f, 64<<10)
	w := &carTemp{store: e, f: f, buf: buf, car: newCARWriter(buf)}
	if _, err := buf.Write(carHeader(noRoot)); err != nil {
		w.discard()
		return nil, unavailable("create object", err)
	}
	return w, nil
}

// createLocked makes a temporary file. Between its creation and its lock another process that
// opens the store may take it for abandoned and remove it: then there is another try.
func createLocked(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, tempPrefix+"*"+tempSuffix)
		if err != nil {
			return nil, err
		}
		if tryLock(f) {
			if _, err := os.Lstat(f.Name()); err == nil {
				return f, nil
			}
		}
		f.Close()
		if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

func (w *carTemp) add(ctx context.Context, b Block) error {
	if w.err == nil {
		w.err = w.tryAdd(ctx, b)
	}
	return w.err
}

func (w *carTemp) tryAdd(ctx context.Context, b Block) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := checkBlock(b); err != nil {
		return err
	}
	if err := w.car.write(b); err != nil {
		return unavailable("write object", err)
	}
	if w.car.bytes-w.flushed >= flushEvery {
		startWriteback(w.f)
		w.flushed = w.car.bytes
	}
	return nil
}

func (w *carTemp) flush() error {
	err := w.buf.Flush()
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		return unavailable("write object", err)
	}
	return nil
}

// commit makes the object durable and gives it its name. The root is in place and on disk before
// the name is, so a file named CID.car is never half of one.
func (w *carTemp) commit(ctx context.Context, root cid.Cid) error {
	if w.err != nil {
		return w.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := checkRoot(w.car, root); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return unavailable("write object", err)
	}
	if _, err := w.f.WriteAt(carHeader(root), 0); err != nil {
		return unavailable("write object", err)
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.store.indexes.Remove(root)
	if err := os.Rename(w.f.Name(), w.store.path(root)); err != nil {
		return unavailable("name object", err)
	}
	w.done = true
	err := errors.Join(syncDir(w.store.dir), w.f.Close())
	if err != nil {
		os.Remove(w.store.path(root))
		return unavailable("name object", err)
	}
	return nil
}

// discard removes what has not been committed.
func (w *carTemp) discard() {
	if !w.done {
		os.Remove(w.f.Name())
		w.f.Close()
	}
}

// checkRoot holds build to what AddFile and AddDirectory do: children before parents, the root last.
func checkRoot(car *carWriter, root cid.Cid) error {
	if car.blocks == 0 || car.last != root {
		return fmt.Errorf("ipfs: the root %s is not the last block of the object", root)
	}
	return nil
}

func unavailable(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, what, err)
}
