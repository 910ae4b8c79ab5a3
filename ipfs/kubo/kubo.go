// Package kubo is the store of an IPFS node, through its RPC. Its invariant:
//
//	Put returns nil only after the node has counted every block and pinned the root.
//
// An object in a node is a recursive pin. Its blocks stream into dag/import as a CAR while they are
// made. Reads use only the blocks that the node has: a missing block is an error, and no read waits
// for the network. The size of every answer, in a listing that of every line, and the time of every
// wait for the node are bounded.
package kubo

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	// defaultIdle bounds a wait without progress. After its last byte a mail waits for the node at
	// most twice, for the import and for the pin, and Postfix gives up after 100 s.
	defaultIdle = 40 * time.Second
	// dialTimeout is short: a node is near, and the mail's sender tries again.
	dialTimeout = 5 * time.Second
	// undoTimeout bounds the unpin after a failed Put.
	undoTimeout = 5 * time.Second
	// maxAnswer bounds every answer of a node: a block, or the lines of a very long pin.
	maxAnswer = ipfs.MaxBlock + 64<<10
	// maxReads bounds the connections for blocks and their buffers. More requests at the same time
	// would not make the node faster.
	maxReads = 64
)

// Config describes a node.
type Config struct {
	// API is the address of the node's RPC: /ip4/127.0.0.1/tcp/5001, /unix/run/ipfs/api.sock or
	// http(s)://host:port.
	API string
	// Token returns the secret in the node's API.Authorizations: a bearer token, "basic:user:pass",
	// or "" for none. It is called for every request, so the secret may change at any time. While
	// it returns an error, the last secret is used. Nil means no secret.
	Token func() (string, error)
	// Idle bounds a wait for the node without progress; 0 means 40 seconds.
	Idle time.Duration
	// Memory is the budget of readers and of read-ahead. Nil means no limit.
	Memory *memory.Budget
}

// Store is an [ipfs.Store] in a node.
type Store struct {
	client client
	http   *transport
	idle   time.Duration
	memory *memory.Budget
	reads  chan struct{}               // semaphore: one token for each block/get under way
	small  *lru.Cache[cid.Cid, []byte] // see getSmall
}

// New returns the store of a node. It does not connect; Check does.
func New(cfg Config) (*Store, error) {
	base, t, err := dialer(cfg.API)
	if err != nil {
		return nil, err
	}
	if cfg.Token != nil {
		if t.token, err = newToken(cfg.Token); err != nil {
			return nil, err
		}
	}
	c, err := newClient(base, &http.Client{Transport: t})
	if err != nil {
		return nil, err
	}
	small, err := lru.New[cid.Cid, []byte](maxSmallBlocks)
	if err != nil {
		return nil, err
	}
	idle := cmp.Or(cfg.Idle, defaultIdle)
	return &Store{client: c, http: t, idle: idle, memory: cfg.Memory, reads: make(chan struct{}, maxReads), small: small}, nil
}

// Open implements [ipfs.Store]. It gets the root block. It ignores pins: another node may have
// pinned the object.
func (s *Store) Open(ctx context.Context, root cid.Cid) (ipfs.Blocks, error) {
	data, err := s.getBlock(ctx, root, nil)
	if err != nil {
		return nil, err
	}
	return &blocks{s: s, root: ipfs.Block{CID: root, Data: data}, last: -1}, nil
}

// Delete implements [ipfs.Store]. The node's next garbage collection removes the blocks.
func (s *Store) Delete(ctx context.Context, root cid.Cid) error {
	err := s.call(ctx, "pin/rm", root.String(), options{"recursive": true}, nil)
	if err != nil && strings.Contains(err.Error(), "not pinned") {
		return nil
	}
	return err
}

// Check implements [ipfs.Store]: it imports, pins, reads and unpins one small block. The block is
// always the same, so a node keeps one block for all checks.
func (s *Store) Check(ctx context.Context) error {
	root, err := s.Put(ctx, "detach check", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, strings.NewReader("detach check"))
		return n.CID, err
	})
	if err != nil {
		return err
	}
	blocks, err := s.Open(ctx, root)
	if err != nil {
		return err
	}
	defer blocks.Close()
	f, err := ipfs.OpenFile(ctx, blocks, root)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.Delete(ctx, root))
}

// Remedy implements [ipfs.Store].
func (s *Store) Remedy(err error) string {
	var refused *refusedError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return "correct store.kubo.api, or the node's certificate"
	case errors.Is(err, errNotRPC):
		return "correct store.kubo.api: it must be the address of kubo's RPC"
	case errors.As(err, &refused) && (refused.status == http.StatusUnauthorized || refused.status == http.StatusForbidden):
		return "correct store.kubo.token_file, or API.Authorizations of the node: AllowedPaths is in docs/operations.md"
	case err != nil && strings.Contains(err.Error(), "no space left"):
		return "free some space on the node's disk: ipfs repo gc removes what no pin holds"
	}
	return "start the node, or correct store.kubo.api"
}

// Warnings implements [ipfs.Warner]. It returns nil if the node does not show its settings.
func (s *Store) Warnings(ctx context.Context) []string {
	var answer struct {
		Value struct {
			Mounts []struct {
				Type, Mountpoint string
				Sync             *bool
			}
		}
	}
	if err := s.call(ctx, "config", "Datastore.Spec", nil, &answer); err != nil {
		return nil
	}
	var warnings []string
	for _, m := range answer.Value.Mounts {
		if m.Type == "flatfs" && m.Sync != nil && !*m.Sync {
			warnings = append(warnings, "Datastore.Spec of the node has \"sync\": false for "+m.Mountpoint+
				": a power failure can lose files it has acknowledged; set it to true and restart the node")
		}
	}
	return warnings
}

var errNoStorageMax = errors.New("the node has no Datastore.StorageMax")

// spaceTimeout bounds the question for the node's free space, for which mails wait.
const spaceTimeout = 2 * time.Second

// Space returns how much of the node's Datastore.StorageMax is free, as the node counts it. It
// fails if the node does not show that, or has no StorageMax.
func (s *Store) Space(ctx context.Context) (free, total int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, spaceTimeout)
	defer cancel()
	var stat struct{ RepoSize, StorageMax uint64 }
	// Without size-only the node counts its blocks, for which it lists all of them.
	if err := s.call(ctx, "repo/stat", "", options{"size-only": true}, &stat); err != nil {
		return 0, 0, err
	}
	if stat.StorageMax == 0 || stat.StorageMax > math.MaxInt64 || stat.RepoSize > math.MaxInt64 {
		return 0, 0, errNoStorageMax
	}
	return int64(stat.StorageMax) - int64(stat.RepoSize), int64(stat.StorageMax), nil
}

// Close implements [ipfs.Store].
func (s *Store) Close() error {
	s.http.base.CloseIdleConnections()
	return nil
}

// call sends a command without a body and decodes the node's answer, unless answer is nil. It reads
// the answer to its end, where a node reports late errors. The answer must end within the idle
// time.
func (s *Store) call(ctx context.Context, command, arg string, opts options, answer any) error {
	watched, watch := s.watch(ctx)
	defer watch.end()
	return fail(ctx, watched, command, s.receive(watched, command, arg, opts, nil, func(r io.Reader) error {
		if answer != nil {
			if err := json.NewDecoder(r).Decode(answer); err != nil {
				return err
			}
		}
		_, err := io.Copy(io.Discard, r)
		return err
	}))
}

// receive posts a command and passes the answer to read, which must read it to its end.
func (s *Store) receive(ctx context.Context, command, arg string, opts options, body *upload, read func(io.Reader) error) error {
	answer, err := s.client.post(ctx, command, arg, opts, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	return read(answer)
}
