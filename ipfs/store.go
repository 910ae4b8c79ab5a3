package ipfs

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
)

var (
	// ErrNotFound: the store does not have the object, or a block of it.
	ErrNotFound = errors.New("ipfs: not found")
	// ErrUnavailable: the store cannot be reached, or cannot do its work now. Trying later may help.
	ErrUnavailable = errors.New("ipfs: store unavailable")
	// ErrCorrupt: what the store gave is not what the CID says, or is not an object of our form.
	ErrCorrupt = errors.New("ipfs: corrupt")
)

// MaxBlock is the largest block that is written, sent or accepted: what kubo and bitswap take.
const MaxBlock = 2 << 20

// Block is one node of a DAG, with its name.
type Block struct {
	CID  cid.Cid
	Data []byte
}

// AddFunc takes the next block of an object. It must not keep Data, which is used again.
// After an error it must not be called again.
type AddFunc func(Block) error

// Store keeps objects: DAGs of blocks, each named by its root. It may be used by several
// goroutines at once.
type Store interface {
	// Put calls build, which hands over every block of one object and returns its root. When Put
	// returns nil, the object is durable and pinned under name. If build fails, its error is
	// returned as it is; if the store does, the error wraps ErrUnavailable; if ctx ends, ctx's
	// error. In all three cases nothing of the object stays: no pin, no file.
	Put(ctx context.Context, name string, build func(add AddFunc) (cid.Cid, error)) (cid.Cid, error)

	// Open gives access to the blocks of an object. The caller closes it. Errors: ErrNotFound,
	// ErrUnavailable, and ErrCorrupt where the damage shows at once.
	Open(ctx context.Context, root cid.Cid) (Blocks, error)

	// Delete removes an object. To delete what is not there is no error.
	Delete(ctx context.Context, root cid.Cid) error

	// Check tells whether the store can be reached and written, by writing.
	Check(ctx context.Context) error

	// Close releases what the store holds. Objects still open are not affected.
	Close() error
}

// Blocks reads the blocks of one object. It is for one goroutine. What it returns is not
// trusted: every caller in this package verifies it, and so must any other ([Verify]).
type Blocks interface {
	// Get returns one block of at most MaxBlock bytes. It gives the caller a buffer for buf, which may
	// be nil: the same one, a larger one, or one that has the block already. Only if it fails buf
	// is still the caller's. Errors: ErrNotFound, ErrUnavailable, ErrCorrupt.
	Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
	Close() error
}
