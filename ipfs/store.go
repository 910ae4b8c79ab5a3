package ipfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
)

var (
	// ErrNotFound: the store does not have the object, or a block of it.
	ErrNotFound = errors.New("ipfs: not found")
	// ErrUnavailable: the store cannot be reached, or cannot do its work now. Trying later may help.
	ErrUnavailable = errors.New("ipfs: store unavailable")
	// ErrCorrupt: the store's bytes do not match the CID, or are not an object of our form.
	ErrCorrupt = errors.New("ipfs: corrupt")
)

// Unavailable returns an error that wraps ErrUnavailable and err. what names the step that failed.
func Unavailable(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, what, err)
}

// MaxBlock is the largest block that is written, sent or accepted: the limit of kubo and bitswap.
const MaxBlock = 2 << 20

// Block is one block of a DAG.
type Block struct {
	CID  cid.Cid
	Data []byte
}

// AddFunc takes the next block of an object. It must not keep Data: the caller reuses it. After an
// error it must not be called again.
type AddFunc func(Block) error

// Store keeps objects: DAGs of blocks, each named by its root. It is safe for concurrent use.
type Store interface {
	// Put calls build, which gives every block of one object to add, children before parents and the
	// root last, and returns the root. When Put returns nil, the object is durable and pinned under
	// name. If build fails, Put returns its error unchanged; if the store fails, the error wraps
	// ErrUnavailable; if ctx ends, the error wraps ctx's cause. In all three cases Put leaves no file,
	// and no pin unless the store became unreachable while it pinned.
	Put(ctx context.Context, name string, build func(add AddFunc) (cid.Cid, error)) (cid.Cid, error)

	// Open gives access to the blocks of an object. The caller closes it. Errors: ErrNotFound,
	// ErrUnavailable, and ErrCorrupt where the damage shows immediately.
	Open(ctx context.Context, root cid.Cid) (Blocks, error)

	// Delete removes an object. Deleting an object that does not exist is not an error.
	Delete(ctx context.Context, root cid.Cid) error

	// List calls yield for every whole object, in no particular order. A store that keeps names lists
	// only the objects whose name begins with prefix. An object that is stored or deleted during the
	// call may be listed or not. List returns an error of yield unchanged. yield may use the store, and
	// may take its time.
	List(ctx context.Context, prefix string, yield func(Item) error) error

	// Rename gives an object another name. A store without names does nothing. If the object is not
	// whole, a store with names returns an error, and may have taken the old name away.
	Rename(ctx context.Context, root cid.Cid, name string) error

	// Check writes to the store and returns nil if that works.
	Check(ctx context.Context) error

	// Remedy says what an operator can do about an error of Check, as the end of a sentence: "start
	// the node". It is never empty.
	Remedy(err error) string

	// Close releases the store's resources. Open objects stay readable.
	Close() error
}

// Item is an object as [Store.List] shows it.
type Item struct {
	Root cid.Cid
	Name string // "" in a store without names
	Size int64  // bytes that the object takes in the store, or -1 if the store does not know
}

// Warner is a Store that can report its settings that put objects at risk.
type Warner interface {
	// Warnings returns one sentence for each such setting, with its remedy.
	Warnings(ctx context.Context) []string
}

// Blocks reads the blocks of one object. It is not safe for concurrent use. Its blocks are not
// trusted: this package verifies each of them, and any other caller must do so too ([Verify]).
type Blocks interface {
	// Get returns one block of at most MaxBlock bytes: in buf if its capacity suffices, and otherwise
	// in a new slice. The caller owns both afterwards. buf may be nil. Errors: ErrNotFound,
	// ErrUnavailable, ErrCorrupt.
	Get(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)

	// GetPart fills p with the bytes of a block from off on. If the block has fewer, the error
	// wraps ErrCorrupt; the other errors are those of Get.
	GetPart(ctx context.Context, c cid.Cid, off int64, p []byte) error

	// Memory returns the store's budget, which the readers of these blocks share. Nil means no limit.
	Memory() *memory.Budget

	Close() error
}
