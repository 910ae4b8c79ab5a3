package transaction

import (
	"io"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// source is a mail's bytes as they come in. After a failure every Read returns that failure.
type source struct {
	src      io.Reader
	original *spool.Spool // what was read so far, in case it has to be passed on unchanged

	patience  *time.Timer // runs while the source waits for us, and not while we wait for it
	allowance time.Duration

	size  int64
	ended bool // the mail was read to its end
	err   error
}

// limitWaiting calls tooSlow when storing keeps the source waiting for longer than allowance,
// between two reads or after the last. stop ends it.
func (s *source) limitWaiting(allowance time.Duration, tooSlow func()) (stop func()) {
	s.patience, s.allowance = time.AfterFunc(allowance, tooSlow), allowance
	return func() {
		s.patience.Stop()
		s.patience = nil
	}
}

func (s *source) Read(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.patience != nil {
		s.patience.Stop()
	}
	n, s.err = s.src.Read(p)
	if s.patience != nil {
		s.patience.Reset(s.allowance)
	}
	s.size += int64(n)
	s.ended = s.err == io.EOF
	if s.original != nil {
		if _, err := s.original.Write(p[:n]); err != nil {
			s.forgetOriginal() // the mail can still be stored, but the original cannot go on instead
		}
	}
	return n, s.err
}

// failed reports whether the source itself has failed.
func (s *source) failed() bool { return s.err != nil && !s.ended }

func (s *source) keepOriginal(space *spool.Space) { s.original = spool.New(space) }

func (s *source) forgetOriginal() {
	if s.original != nil {
		s.original.Close()
		s.original = nil
	}
}
