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
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/object"
	"github.com/nkirchhoffer/detach-mta/internal/readahead"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	// pinPrefix begins the name of every pin that Detach sets on a node.
	pinPrefix = "detach/v1 "
	// discardTimeout bounds how long a failed mail's connection waits for the store to delete.
	discardTimeout = 30 * time.Second
)

var errForeign = errors.New("object does not belong to this batch, or is committed")

// Batch holds the attachments of one mail, which are stored but not served before Commit. It is not
// safe for concurrent use. The caller closes it.
type Batch struct {
	v         *Vault
	created   time.Time
	epoch     crypto.Epoch
	objects   []stored
	committed int       // how many of objects are in the ledger
	doubtful  []cid.Cid // Put failed, but the object may have been stored
	pending   *os.File  // the record in pendingDir; nil before the first object
	ensured   bool      // the epoch has its secret
	witness   cid.Cid   // one of the objects, and the hash of its share
	proof     [sha256.Size]byte
}

type stored struct {
	cid  cid.Cid
	size int64
}

// Begin starts a batch. It touches neither disk nor store before the first Detach.
func (v *Vault) Begin() *Batch {
	now := v.cfg.Now().UTC().Truncate(time.Second)
	return &Batch{v: v, created: now, epoch: v.epoch(now)}
}

// Expires returns when the batch's links will end; zero for never.
func (b *Batch) Expires() time.Time { return b.v.expires(b.created) }

// CIDs returns the batch's objects in the order in which they were detached.
func (b *Batch) CIDs() []cid.Cid {
	cids := make([]cid.Cid, len(b.objects))
	for i, o := range b.objects {
		cids[i] = o.cid
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
	var share crypto.Share
	var sealed cid.Cid
	root, err := b.v.store.Put(ctx, pinPrefix+string(b.epoch), func(add ipfs.AddFunc) (cid.Cid, error) {
		root, err := b.seal(ctx, add, key, meta, s)
		if err != nil {
			return root, err
		}
		// Both are done here because Put deletes the object if one of them fails.
		if share, err = b.share(root); err == nil {
			b.keep(root, share)
			err = b.note(root.String())
			sealed = root
		}
		return root, err
	})
	if err != nil {
		if sealed.Defined() {
			b.doubtful = append(b.doubtful, sealed)
		}
		return link.Link{}, fmt.Errorf("detach: %w", err)
	}
	b.objects = append(b.objects, stored{root, s.n})
	return link.Link{Base: b.v.cfg.BaseURL, CID: root, Fragment: key.Split(share)}, nil
}

// ensure makes the epoch's secret before the batch's first object. Later objects need the same one:
// while the batch is not in the ledger, nothing else would keep a new secret from being made.
func (b *Batch) ensure() error {
	if b.v.cfg.Mode == LinkOnly || b.ensured {
		return nil
	}
	err := b.v.ensure(b.epoch)
	b.ensured = err == nil
	return err
}

// keep notes the secret with which the object was sealed.
func (b *Batch) keep(c cid.Cid, s crypto.Share) {
	if !b.witness.Defined() {
		b.witness, b.proof = c, sha256.Sum256(s.Bytes())
	}
}

// checkSecret returns an error unless the epoch still has the secret with which the objects were
// sealed.
func (b *Batch) checkSecret() error {
	if !b.witness.Defined() {
		return nil
	}
	share, err := b.share(b.witness)
	if err == nil && sha256.Sum256(share.Bytes()) != b.proof {
		err = errors.New("the epoch has another secret than at the mail's beginning")
	}
	return err
}

// seal adds the blocks of one object. Data comes first, since the metadata has its size and hash.
func (b *Batch) seal(ctx context.Context, add ipfs.AddFunc, key crypto.Key, meta crypto.Meta, s *sealer) (cid.Cid, error) {
	data, err := s.store(ctx, add, b.v.cfg.Spools)
	if err != nil {
		return cid.Undef, err
	}
	meta.Size, meta.SHA256 = s.n, [32]byte(s.sum.Sum(nil))
	kid := string(b.epoch)
	if b.v.cfg.Mode == LinkOnly {
		kid = crypto.LinkKID
	}
	jwe, err := key.SealMeta(meta, kid)
	if err != nil {
		return cid.Undef, err
	}
	sealed, err := ipfs.AddLeaf(add, jwe)
	if err != nil {
		return cid.Undef, err
	}
	entries := []ipfs.Entry{{Name: object.Data, Node: data}, {Name: object.Meta, Node: sealed}}
	if encoded := s.encoded(); encoded != nil {
		stream, err := key.EncodedStream()
		if err != nil {
			return cid.Undef, err
		}
		node, err := addOwn(ctx, add, cipher.StreamReader{S: stream, R: encoded}, b.v.cfg.Spools)
		if err != nil {
			return cid.Undef, err
		}
		entries = append(entries, ipfs.Entry{Name: object.Encoded, Node: node})
	}
	dir, err := ipfs.AddDirectory(add, entries...)
	return dir.CID, err
}

func (b *Batch) share(c cid.Cid) (crypto.Share, error) {
	if b.v.cfg.Mode == LinkOnly {
		return crypto.ZeroShare(), nil
	}
	return b.v.keys.Share(b.epoch, c.Bytes())
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

func (b *Batch) find(c cid.Cid) int {
	return slices.IndexFunc(b.objects, func(o stored) bool { return o.cid == c })
}

// Open reads one of the batch's objects back.
func (b *Batch) Open(ctx context.Context, l link.Link) (io.ReadCloser, error) {
	i := b.find(l.CID)
	if i < 0 {
		return nil, errForeign
	}
	o, err := b.v.object(ctx, l.CID, newRecord(b.objects[i].size, b.created, b.Expires(), b.epoch))
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, l.Fragment)
}

// Drop deletes one of the batch's objects.
func (b *Batch) Drop(ctx context.Context, l link.Link) error {
	i := b.find(l.CID)
	if i < b.committed {
		return errForeign
	}
	if err := b.v.store.Delete(ctx, l.CID); err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	b.objects = slices.Delete(b.objects, i, i+1)
	return nil
}

// Commit writes the batch into the ledger. When it returns nil, the ledger is on disk and the links
// are served. A later Commit adds what was detached since.
func (b *Batch) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fresh := b.objects[b.committed:]
	if len(fresh) == 0 {
		return nil
	}
	if err := b.checkSecret(); err != nil {
		return err
	}
	if err := b.v.ledger.append(b.epoch, b.created, b.Expires(), fresh); err != nil {
		return err
	}
	b.committed = len(b.objects)
	return nil
}

// Discard deletes all of the batch's objects, also after Commit: if the next hop refuses the mail,
// only its lines in the ledger stay. Discard continues when ctx is canceled, until ctx's deadline
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
	gone := func(c cid.Cid) bool {
		err := b.v.store.Delete(ctx, c)
		if err != nil {
			errs = append(errs, fmt.Errorf("discard: %w", err))
		}
		return err == nil
	}
	b.objects = slices.DeleteFunc(b.objects, func(o stored) bool { return gone(o.cid) })
	b.doubtful = slices.DeleteFunc(b.doubtful, gone)
	b.committed = 0
	if len(b.objects)+len(b.doubtful) == 0 {
		return nil // even if the note failed, as on a full disk
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
