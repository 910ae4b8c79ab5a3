// Package transactiontest has a mail and a store for the tests of transactions and of doors. The
// store keeps no attachment; it notes what happened to each batch.
package transactiontest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// Base is the beginning of the links of a Store.
const Base = "https://files.example"

// ErrDown is the error of a store that fails.
var ErrDown = errors.New("store is down")

// CID names every object of a Store.
var CID = func() cid.Cid {
	sum, err := multihash.Sum([]byte("x"), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.DagProtobuf, sum)
}()

// Mail returns a mail with an attachment of size bytes to detach.
func Mail(size int) string {
	var body strings.Builder
	enc := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("attached"), size/8+1)[:size])
	for ; len(enc) > 76; enc = enc[76:] {
		body.WriteString(enc[:76] + "\r\n")
	}
	return "From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nHello.\r\n" +
		"--b\r\nContent-Type: application/pdf; name=secret.pdf\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment\r\n\r\n" + body.String() + enc + "\r\n--b--\r\n"
}

// Behavior says what a store does to the batches that begin. The zero Behavior stores everything.
type Behavior struct {
	Failure     error         // of Detach
	FailAfter   int64         // bytes of the attachment
	Commit      error         // of Commit
	Panics      bool          // in Detach
	Hangs       bool          // Detach returns only when ctx ends; with Failure, after FailAfter bytes
	SlowCommit  bool          // Commit returns only when ctx ends
	SlowDiscard bool          // Discard returns only when ctx ends
	Begun       chan struct{} // receives at each Detach
}

// A Store makes batches. It is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	behavior Behavior
	last     *batch
}

// Set changes the behavior for batches that begin later.
func (s *Store) Set(m Behavior) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behavior = m
}

// Begin starts a batch, for transaction.Config.
func (s *Store) Begin() transaction.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = &batch{Behavior: s.behavior, store: s}
	return s.last
}

// Last returns what happened to the last batch, or "none" if no batch has begun: "committed ",
// "discarded " and "closed " in the order in which they happened.
func (s *Store) Last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return "none"
	}
	return s.last.fate
}

type batch struct {
	Behavior
	store *Store
	fate  string
}

func (b *batch) Detach(ctx context.Context, _, _ string, r io.Reader) (link.Link, error) {
	if b.Begun != nil {
		b.Begun <- struct{}{}
	}
	if b.Panics {
		panic("a secret")
	}
	limit := int64(1 << 62)
	if b.Failure != nil {
		limit = b.FailAfter
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(r, limit)); err != nil {
		return link.Link{}, fmt.Errorf("store: %w", err)
	}
	if b.Hangs {
		<-ctx.Done()
		return link.Link{}, ctx.Err()
	}
	return link.Link{Base: Base, CID: CID}, b.Failure
}

func (b *batch) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, _ func() io.Reader) (link.Link, error) {
	return b.Detach(ctx, name, mediaType, r)
}

func (b *batch) Open(context.Context, link.Link) (io.ReadCloser, error) { return nil, ErrDown }
func (b *batch) Drop(context.Context, link.Link) error                  { return ErrDown }
func (b *batch) Expires() time.Time                                     { return time.Time{} }
func (b *batch) CIDs() []cid.Cid                                        { return []cid.Cid{CID} }

func (b *batch) Commit(ctx context.Context) error {
	return b.become(ctx, "committed ", b.SlowCommit, b.Behavior.Commit)
}

func (b *batch) Discard(ctx context.Context) error {
	return b.become(ctx, "discarded ", b.SlowDiscard, ctx.Err())
}

func (b *batch) Close() error { return b.become(context.Background(), "closed ", false, nil) }

func (b *batch) become(ctx context.Context, fate string, slow bool, err error) error {
	if slow {
		<-ctx.Done()
		return ctx.Err()
	}
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if err == nil {
		b.fate += fate
	}
	return err
}
