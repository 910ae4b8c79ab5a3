// Package embedded is the store that needs no node: one CARv1 file for each object, in one
// directory. Its invariant:
//
//	A file named CID.car is whole and on disk.
//
// While an object is written, its file is put-*.tmp and locked by its writer; an unlocked file was
// left by a crash. Writing costs two syncs, deleting one unlink and one sync. Several processes may
// share the directory.
package embedded

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

	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	// flushEvery is the number of bytes after which the kernel begins to write them to the disk.
	// Otherwise the sync at the end, for which the mail's sender waits, would write the whole file.
	flushEvery = 8 << 20
	// maxIndexes bounds the cached indexes. An index takes 24 bytes for each MiB of its object.
	maxIndexes = 256

	tempPrefix, tempSuffix = "put-", ".tmp"
	carSuffix              = ".car"
)

// Store is an [ipfs.Store] in a directory.
type Store struct {
	dir      string
	readOnly bool
	memory   *memory.Budget
	indexes  *lru.Cache[cid.Cid, *index]
}

// index is the index of one CAR file. info is that of the file when it was scanned.
type index struct {
	*ipfs.CARIndex
	info os.FileInfo
}

var errReadOnly = errors.New("the store is open for reading only")

// Open opens the store in dir, creates the directory if it does not exist, and removes the files
// that crashed writers left. The readers of the store's objects share the budget.
func Open(dir string, budget *memory.Budget) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, ipfs.Unavailable("open store", err)
	}
	// The directory's own name must outlive a power failure, too.
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, ipfs.Unavailable("open store", err)
	}
	if err := durable.RemoveAbandoned(dir, tempPrefix, tempSuffix); err != nil {
		return nil, ipfs.Unavailable("clean store", err)
	}
	return open(dir, false, budget)
}

// OpenReadOnly opens a store that this process only reads: another user's, a copy, a snapshot. The
// directory must exist, and is not changed. Put, Delete and Check fail.
func OpenReadOnly(dir string) (*Store, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, ipfs.Unavailable("open store", err)
	}
	return open(dir, true, nil)
}

func open(dir string, readOnly bool, budget *memory.Budget) (*Store, error) {
	indexes, err := lru.New[cid.Cid, *index](maxIndexes)
	if err != nil {
		return nil, err
	}
	return &Store{dir: dir, readOnly: readOnly, memory: budget, indexes: indexes}, nil
}

func (s *Store) path(root cid.Cid) string {
	return filepath.Join(s.dir, root.String()+carSuffix)
}

// Put implements [ipfs.Store]. It ignores the name: the file itself is the pin.
func (s *Store) Put(ctx context.Context, name string, build func(add ipfs.AddFunc) (cid.Cid, error)) (cid.Cid, error) {
	w, err := s.create()
	if err != nil {
		return cid.Undef, err
	}
	defer w.discard()
	root, err := build(func(b ipfs.Block) error { return w.add(ctx, b) })
	if err != nil {
		return cid.Undef, err
	}
	if err := w.commit(ctx, root); err != nil {
		return cid.Undef, err
	}
	return root, nil
}

// Open implements [ipfs.Store]. It reads the CAR's section heads, unless their index is cached.
func (s *Store) Open(ctx context.Context, root cid.Cid) (ipfs.Blocks, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, err := os.Open(s.path(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: object %s", ipfs.ErrNotFound, root)
	} else if err != nil {
		return nil, ipfs.Unavailable("open object", err)
	}
	idx, err := s.index(f, root)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &object{f, idx.CARIndex, s.memory}, nil
}

func (s *Store) index(f *os.File, root cid.Cid) (*index, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, ipfs.Unavailable("open object", err)
	}
	if x, ok := s.indexes.Get(root); ok && x.isOf(info) {
		return x, nil
	}
	scanned, err := ipfs.ScanCAR(f, info.Size(), root)
	if err != nil {
		return nil, err
	}
	x := &index{scanned, info}
	s.indexes.Add(root, x)
	return x, nil
}

// isOf reports whether the index belongs to the file as it is now.
func (x *index) isOf(info os.FileInfo) bool {
	return os.SameFile(x.info, info) && x.info.Size() == info.Size() && x.info.ModTime().Equal(info.ModTime())
}

// object is the Blocks of an open CAR file.
type object struct {
	f      *os.File
	index  *ipfs.CARIndex
	memory *memory.Budget
}

func (o *object) Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return o.index.Get(o.f, c, buf)
}

func (o *object) GetPart(ctx context.Context, c cid.Cid, off int64, p []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return o.index.GetPart(o.f, c, off, p)
}

func (o *object) Memory() *memory.Budget { return o.memory }

func (o *object) Close() error { return o.f.Close() }

// Delete implements [ipfs.Store]. Readers that have the object open continue to read it.
func (s *Store) Delete(ctx context.Context, root cid.Cid) error {
	if s.readOnly {
		return ipfs.Unavailable("delete object", errReadOnly)
	}
	s.indexes.Remove(root)
	err := os.Remove(s.path(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(s.dir)
	}
	if err != nil {
		return ipfs.Unavailable("delete object", err)
	}
	return nil
}

// Check implements [ipfs.Store]: it writes, syncs and removes a file.
func (s *Store) Check(ctx context.Context) error {
	w, err := s.create()
	if err != nil {
		return err
	}
	defer w.discard()
	if _, err := ipfs.AddFile(func(b ipfs.Block) error { return w.add(ctx, b) }, strings.NewReader("")); err != nil {
		return err
	}
	return w.flush()
}

// Remedy implements [ipfs.Store].
func (s *Store) Remedy(err error) string {
	if remedy := durable.Remedy(err, filepath.Dir(s.dir)); remedy != "" {
		return remedy
	}
	return "make " + s.dir + " a directory in which this user can write"
}

// Close implements [ipfs.Store].
func (s *Store) Close() error {
	s.indexes.Purge()
	return nil
}

// carTemp is a CAR that is being written.
type carTemp struct {
	store   *Store
	f       *os.File
	buf     *bufio.Writer
	car     *ipfs.CARWriter
	flushed uint64 // value of car.Size at the last startWriteback
	done    bool
	err     error // the first failure, which build may have ignored
}

func (s *Store) create() (*carTemp, error) {
	if s.readOnly {
		return nil, ipfs.Unavailable("create object", errReadOnly)
	}
	f, err := durable.CreateLocked(s.dir, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return nil, ipfs.Unavailable("create object", err)
	}
	buf := bufio.NewWriter(f) // small, for the heads between the blocks: a mail may take hours
	w := &carTemp{store: s, f: f, buf: buf, car: ipfs.NewCARWriter(buf)}
	if err := w.car.WriteHeader(); err != nil {
		w.discard()
		return nil, ipfs.Unavailable("create object", err)
	}
	return w, nil
}

func (w *carTemp) add(ctx context.Context, b ipfs.Block) error {
	if w.err == nil {
		w.err = w.tryAdd(ctx, b)
	}
	return w.err
}

func (w *carTemp) tryAdd(ctx context.Context, b ipfs.Block) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := ipfs.CheckBlock(b); err != nil {
		return err
	}
	if err := w.car.Write(b); err != nil {
		return ipfs.Unavailable("write object", err)
	}
	if w.car.Size-w.flushed >= flushEvery {
		startWriteback(w.f)
		w.flushed = w.car.Size
	}
	return nil
}

func (w *carTemp) flush() error {
	err := w.buf.Flush()
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		return ipfs.Unavailable("write object", err)
	}
	return nil
}

// commit makes the object durable and gives it its name. The blocks and the root are on disk before
// the name, so a file named CID.car is always whole.
func (w *carTemp) commit(ctx context.Context, root cid.Cid) error {
	if w.err != nil {
		return w.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := w.car.CheckRoot(root); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return ipfs.Unavailable("write object", err)
	}
	if _, err := w.f.WriteAt(ipfs.CARHeader(root), 0); err != nil {
		return ipfs.Unavailable("write object", err)
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.store.indexes.Remove(root)
	if err := os.Rename(w.f.Name(), w.store.path(root)); err != nil {
		return ipfs.Unavailable("name object", err)
	}
	w.done = true
	if err := errors.Join(durable.SyncDir(w.store.dir), w.f.Close()); err != nil {
		os.Remove(w.store.path(root))
		return ipfs.Unavailable("name object", err)
	}
	return nil
}

// discard removes the file unless it was committed.
func (w *carTemp) discard() {
	if !w.done {
		os.Remove(w.f.Name())
		w.f.Close()
	}
}
