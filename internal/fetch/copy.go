package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

const (
	retries    = 4           // in a row without a new byte
	retryPause = time.Second // before the first of them; each pause is twice the one before
)

var (
	// ErrOtherSum means that every block was right, but the whole does not have the SHA-256 in the
	// metadata. After a resumed download, the beginning was not this file's.
	ErrOtherSum = fmt.Errorf("%w: its SHA-256 is another", ipfs.ErrCorrupt)

	errAbsent = fmt.Errorf("the file is not in this store: it has expired or was withdrawn, or never was there: %w", ipfs.ErrNotFound)
	errLocal  = errors.New("cannot write")
)

// Final reports whether a next attempt must start from the beginning after err.
func Final(err error) bool { return errors.Is(err, ErrOtherSum) || errors.Is(err, errGone) }

// Sum is the SHA-256 of what has arrived of a file, from its beginning.
type Sum struct {
	hash hash.Hash
	N    int64 // bytes that have arrived
}

// NewSum returns the Sum of nothing.
func NewSum() *Sum { return &Sum{hash: sha256.New()} }

func (s *Sum) Write(p []byte) (int, error) {
	s.N += int64(len(p))
	return s.hash.Write(p)
}

// Copy writes the file in clear to w, from the byte that sum has reached, and adds what it writes
// to sum; nil stands for a new Sum. After a broken connection it resumes. It writes only verified
// bytes. The file is complete only if the error is nil.
func (o *Object) Copy(ctx context.Context, w io.Writer, sum *Sum) error {
	if sum == nil {
		sum = NewSum()
	}
	first := cmp.Or(o.client.pause, retryPause)
	for left, pause := retries, first; ; {
		before := sum.N
		err := o.copyOnce(ctx, io.MultiWriter(w, sum), sum.N)
		if err == nil {
			break
		}
		if sum.N > before {
			left, pause = retries, first
		}
		if left--; left < 0 || ctx.Err() != nil || !retryable(err) {
			return explain(err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if [sha256.Size]byte(sum.hash.Sum(nil)) != o.Meta.SHA256 {
		return ErrOtherSum
	}
	return nil
}

func (o *Object) copyOnce(ctx context.Context, w io.Writer, from int64) error {
	file, err := o.file(ctx, from)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(localWriter{w}, file)
	return err
}

// localWriter marks its errors with errLocal: asking the gateway again would not help.
type localWriter struct{ io.Writer }

func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errLocal, err)
	}
	return n, err
}

// retryable reports whether asking again may help: the connection failed, and not the file.
func retryable(err error) bool {
	if s, ok := errors.AsType[statusError](err); ok {
		return s.retryable()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) { // an answer that was cut off, which is also ErrCorrupt
		return true
	}
	for _, final := range []error{ipfs.ErrCorrupt, ipfs.ErrNotFound, errNotDetach, errLocal} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// explain puts before an error what it means to the user.
func explain(err error) error {
	switch {
	case errors.Is(err, errAbsent):
		return err
	case errors.Is(err, ipfs.ErrCorrupt), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ipfs.ErrNotFound):
		return fmt.Errorf("the file did not arrive whole; try again: %w", err)
	}
	return err
}
