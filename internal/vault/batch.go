package vault

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/readahead"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// discardTimeout bounds how long a failed mail's connection waits for the store to delete.
const discardTimeout = 30 * time.Second

var errNotInBatch = errors.New("object does not belong to this batch, or is committed")

// Batch holds the attachments of one mail. Nobody has their links before the mail is passed on, so
// before Commit nothing serves them. It is not safe for concurrent use. The caller closes it.
type Batch struct {
	v         *Vault
	created   time.Time
	period    crypto.Period
	mail      string       // the same in all lines of the ledger
	epoch     crypto.Epoch // "" before the first object
	objects   []stored
	committed int       // how many of objects are in the ledger
	listed    int       // how many may be there: a failed Commit may have written them
	doubtful  []cid.Cid // Put failed, but the object may have been stored
	pending   *os.File  // the record in pendingDir; nil before the first object
}

// stored is an object of a batch.
type stored struct {
	entry  ledger.Entry
	origin crypto.Origin
}

// Begin starts a batch. Its files are kept for at least the retention, and at most a day longer; 0
// stands for forever. It touches neither disk nor store before the first Detach.
func (v *Vault) Begin(retention time.Duration) *Batch {
	now := v.clock.Now().UTC().Truncate(time.Second)
	return &Batch{v: v, created: now, period: crypto.PeriodOf(now, retention)}
}

// Expires returns when the batch's links will end: 00:00 UTC after their last day; zero for never.
func (b *Batch) Expires() time.Time { return b.period.End() }

// CIDs returns the batch's objects in the order in which they were detached.
func (b *Batch) CIDs() []cid.Cid {
	cids := make([]cid.Cid, len(b.objects))
	for i, o := range b.objects {
		cids[i] = o.entry.CID
	}
	return cids
}

// Detach reads r to its end, stores what it read and returns the link. It wraps an error of r; an
// error of the store wraps ErrUnavailable. After an error, the attachment is deleted.
func (b *Batch) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	return b.DetachEncoded(ctx, name, mediaType, r, func() io.Reader { return nil })
}

// DetachEncoded is Detach for an attachment that may have to be stored in its encoded form as well.
// It calls encoded once, after it has read r to its end; nil stands for no encoded form.
func (b *Batch) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, encoded func() io.Reader) (link.Link, error) {
	key, err := crypto.NewKey()
	if err != nil {
		return link.Link{}, fmt.Errorf("detach: %w", err)
	}
	if err := b.ensure(); err != nil {
		return link.Link{}, fmt.Errorf("detach: %w", err)
	}
	s := &sealer{r: r, encoded: encoded, stream: key.Stream(0), sum: sha256.New()}
	meta := crypto.Meta{Name: filename.Clip(name), Type: filename.Clip(mediaType), Created: b.created, Expires: b.Expires()}
	var o sealed
	root, err := b.v.store.Put(ctx, PinName(b.epoch), func(add ipfs.AddFunc) (root cid.Cid, err error) {
		if o, err = b.seal(ctx, add, key, meta, s); err == nil {
			err = b.note(o.root.String()) // here, because Put deletes the object if it fails
		}
		return o.root, err
	})
	if err != nil {
		if o.root.Defined() {
			b.doubtful = append(b.doubtful, o.root)
		}
		return link.Link{}, fmt.Errorf("detach: %w", err)
	}
	b.objects = append(b.objects, stored{ledger.Entry{
		CID: root, Core: o.core, KID: b.kid(), Size: s.n, Created: b.created, Mail: b.mail, Kind: kindOf(mediaType),
	}, o.origin})
	return link.Link{Base: b.v.cfg.BaseURL, CID: root, Fragment: o.fragment}, nil
}

// ensure finds or makes the secrets of the batch's epoch before its first object. With a clock that
// is wrong, the epoch would have the wrong end.
func (b *Batch) ensure() (err error) {
	if b.epoch != "" {
		return nil
	}
	if err := b.v.clock.Check(); err != nil {
		return err
	}
	if b.mail, err = newMailID(); err != nil {
		return err
	}
	b.epoch, err = b.v.keys.Writer(b.period)
	return err
}

func (b *Batch) kid() crypto.KID { return crypto.KID{Epoch: b.epoch, Link: b.v.cfg.Mode == LinkOnly} }

// sealed is what makes an object and its link.
type sealed struct {
	root, core cid.Cid
	fragment   crypto.Fragment
	origin     crypto.Origin
}

// seal adds the blocks of one object. Data comes first, since the metadata has its size and hash.
// The other entries fix the core, the core the share and so the fragment, and all of them the
// origin.
func (b *Batch) seal(ctx context.Context, add ipfs.AddFunc, key crypto.Key, meta crypto.Meta, s *sealer) (o sealed, err error) {
	entries := make(ipfs.Directory)
	if entries[object.Data], err = s.store(ctx, add, b.v.cfg.Spools); err != nil {
		return o, err
	}
	meta.Size, meta.SHA256 = s.n, [32]byte(s.sum.Sum(nil))
	jwe, err := key.SealMeta(meta, b.kid())
	if err != nil {
		return o, err
	}
	if entries[object.Meta], err = ipfs.AddLeaf(add, jwe); err != nil {
		return o, err
	}
	if err := b.addEncoded(ctx, add, entries, key, s.encoded()); err != nil {
		return o, err
	}
	if err := b.addEscrow(add, entries, key); err != nil {
		return o, err
	}
	if o.core, err = entries.CID(); err != nil {
		return o, err
	}
	return b.finish(add, entries, key, o.core)
}

// addEncoded adds the encoded form, if there is one.
func (b *Batch) addEncoded(ctx context.Context, add ipfs.AddFunc, entries ipfs.Directory, key crypto.Key, encoded io.Reader) error {
	if encoded == nil {
		return nil
	}
	stream, err := key.EncodedStream()
	if err != nil {
		return err
	}
	node, err := addOwn(ctx, add, cipher.StreamReader{S: stream, R: encoded}, b.v.cfg.Spools)
	entries[object.Encoded] = node
	return err
}

// addEscrow adds the key for the operator, if the configuration says so.
func (b *Batch) addEscrow(add ipfs.AddFunc, entries ipfs.Directory, key crypto.Key) error {
	if b.v.cfg.Escrow == nil {
		return nil
	}
	file, err := b.v.cfg.Escrow(key)
	if err != nil {
		return err
	}
	entries[object.Escrow], err = ipfs.AddLeaf(add, file)
	return err
}

// finish adds the origin and the directory.
func (b *Batch) finish(add ipfs.AddFunc, entries ipfs.Directory, key crypto.Key, core cid.Cid) (o sealed, err error) {
	share := crypto.ZeroShare()
	if !b.kid().Link {
		if share, err = b.v.keys.Share(b.epoch, core); err != nil {
			return o, err
		}
	}
	o.core, o.fragment = core, key.Split(share)
	if o.origin, err = b.v.keys.SealOrigin(b.epoch, core, o.fragment, key); err != nil {
		return o, err
	}
	if entries[object.Origin], err = ipfs.AddLeaf(add, o.origin[:]); err != nil {
		return o, err
	}
	dir, err := entries.Add(add)
	o.root = dir.CID
	return o, err
}

// note adds a line to the batch's record, which outlives this process. The first note creates it.
func (b *Batch) note(line string) (err error) {
	if b.pending == nil {
		if b.pending, err = b.v.pending.create(); err != nil {
			return fmt.Errorf("record what is stored: %w", err)
		}
	}
	if _, err := b.pending.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("record what is stored: %w", err)
	}
	return nil
}

// sealer is a reader that hashes, counts and encrypts what it reads from r.
type sealer struct {
	r       io.Reader
	encoded func() io.Reader // what else is stored, once r is read
	stream  cipher.Stream
	sum     hash.Hash
	n       int64
}

// addOwn adds a file from a source that is ours, so that its blocks are filled without waiting.
func addOwn(ctx context.Context, add ipfs.AddFunc, r io.Reader, spools *spool.Space) (ipfs.Node, error) {
	budget := spools.Memory()
	if err := budget.Acquire(ctx, ipfs.ChunkSize); err != nil {
		return ipfs.Node{}, err
	}
	defer budget.Release(ipfs.ChunkSize)
	return ipfs.AddFile(add, r)
}

// fillMemory is what filling the blocks of a file takes: a block, and a buffer to read ahead.
const fillMemory = ipfs.ChunkSize + readahead.BufferSize

// store adds the file, and reads ahead from the mail while earlier bytes are hashed, encrypted and
// stored. It starts only here: while the store is unreachable, the mail must not be read. If there
// is no memory to fill blocks at the sender's pace, they are filled on the disk.
func (s *sealer) store(ctx context.Context, add ipfs.AddFunc, spools *spool.Space) (ipfs.Node, error) {
	budget := spools.Memory()
	if !budget.TryAcquire(fillMemory) {
		block := spool.New(spools)
		defer block.Close()
		return ipfs.AddFileSlowly(ctx, add, s, budget, block)
	}
	defer budget.Release(fillMemory)
	source := readahead.NewReader(s.r, budget)
	defer source.Close()
	s.r = source
	return ipfs.AddFile(add, s)
}

func (s *sealer) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	s.stream.XORKeyStream(p[:n], p[:n])
	s.n += int64(n)
	return n, err
}

func (b *Batch) entries() []ledger.Entry {
	entries := make([]ledger.Entry, len(b.objects))
	for i, o := range b.objects {
		entries[i] = o.entry
	}
	return entries
}

func (b *Batch) find(c cid.Cid) int {
	return slices.IndexFunc(b.objects, func(o stored) bool { return o.entry.CID == c })
}

// Open reads one of the batch's objects back.
func (b *Batch) Open(ctx context.Context, l link.Link) (io.ReadCloser, error) {
	if b.find(l.CID) < 0 {
		return nil, errNotInBatch
	}
	o, err := b.v.verified(ctx, l.CID)
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, l.Fragment)
}

// Drop deletes one of the batch's objects.
func (b *Batch) Drop(ctx context.Context, l link.Link) error {
	i := b.find(l.CID)
	if i < b.listed {
		return errNotInBatch
	}
	if err := b.v.store.Delete(ctx, l.CID); err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	b.objects = slices.Delete(b.objects, i, i+1)
	return nil
}

// Commit writes the batch into the ledger, after it has proved that the secrets with which the
// objects were sealed are still there: without them, the links would be dead. When it returns nil,
// the ledger is on disk. A later Commit adds what was detached since.
func (b *Batch) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fresh := b.objects[b.committed:]
	if len(fresh) == 0 {
		return nil
	}
	for _, o := range fresh {
		if err := b.v.keys.CheckOrigin(b.epoch, o.entry.Core, o.origin); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	b.listed = len(b.objects)
	if err := b.v.ledger.Append(b.entries()[b.committed:]...); err != nil {
		return err
	}
	b.committed = len(b.objects)
	_ = b.note(committedLine) // best effort: the ledger is on disk
	return nil
}

// Discard deletes all of the batch's objects, also after Commit: the ledger's lines are taken back.
// Discard continues when ctx is canceled, until ctx's deadline
// or for 30 s. What it cannot delete is left to the next Discard, or to [Vault.Recover].
func (b *Batch) Discard(ctx context.Context) error {
	until := time.Now().Add(discardTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	var errs []error
	if b.pending != nil {
		// A failed Commit may have written the ledger, so Recover must not go by the ledger.
		errs = append(errs, b.note(refusedLine))
	}
	errs = append(errs, b.v.ledger.Forget(b.entries()[:b.listed]...))
	gone := func(c cid.Cid) bool {
		err := b.v.store.Delete(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("discard: %w", err))
		}
		return err == nil
	}
	b.objects = slices.DeleteFunc(b.objects, func(o stored) bool { return gone(o.entry.CID) })
	b.doubtful = slices.DeleteFunc(b.doubtful, gone)
	b.committed, b.listed = 0, 0
	if len(b.objects)+len(b.doubtful) == 0 {
		return nil // even if the notes failed, as on a full disk
	}
	return errors.Join(errs...)
}

// Close ends the batch. [Vault.Recover] deletes what was neither committed nor discarded.
func (b *Batch) Close() error {
	if b.pending == nil {
		return nil
	}
	var err error
	if len(b.objects) == b.committed && len(b.doubtful) == 0 {
		err = durable.Remove(b.pending.Name())
	}
	err = errors.Join(err, b.pending.Close())
	b.pending = nil
	return err
}
