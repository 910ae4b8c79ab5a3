package transaction

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
)

// maxSenders bounds the memory of a SenderLimit. If there are more senders, the one that was seen
// least recently begins anew.
const maxSenders = 10_000

// ErrSenderLimit is returned by Receive when the mail's sender has reached its limit for the day.
var ErrSenderLimit = errors.New("the sender's limit of the day is reached (sender_limit)")

// A SenderLimit bounds how many bytes are stored for each sender and day (UTC). A sender is the
// user that has authenticated, if the door knows one, and otherwise the envelope's address; all
// bounces have one sender. It keeps hashes, no names, and begins anew with the process. It is safe
// for concurrent use. A nil SenderLimit has no limit.
type SenderLimit struct {
	limit int64
	now   func() time.Time
	seed  maphash.Seed

	mu     sync.Mutex
	day    int64
	stored *lru.Cache[uint64, int64] // bytes, by the sender's hash
}

// NewSenderLimit returns a limit of limit bytes, or nil if limit is 0.
func NewSenderLimit(limit int64) *SenderLimit {
	if limit == 0 {
		return nil
	}
	stored, err := lru.New[uint64, int64](maxSenders)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &SenderLimit{limit: limit, now: time.Now, seed: maphash.MakeSeed(), stored: stored}
}

// sender returns the number under which an envelope's sender is counted.
func (l *SenderLimit) sender(env Envelope) uint64 {
	if l == nil {
		return 0
	}
	name := "user " + env.User
	if env.User == "" {
		name = "address " + strings.ToLower(env.Sender)
	}
	return maphash.String(l.seed, name)
}

// add counts n bytes, and reports whether the sender may have them. A negative n takes bytes back.
func (l *SenderLimit) add(sender uint64, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if day := l.now().Unix() / (24 * 60 * 60); day != l.day {
		l.day = day
		l.stored.Purge()
	}
	total, _ := l.stored.Get(sender)
	if n > 0 && total+n > l.limit {
		return false
	}
	l.stored.Add(sender, max(0, total+n))
	return true
}

// metered is a Detacher that counts what it stores for a sender.
type metered struct {
	rewrite.Detacher
	limit   *SenderLimit
	sender  uint64
	counted int64
}

func (m *metered) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	return m.Detacher.Detach(ctx, name, mediaType, &meter{m, r})
}

func (m *metered) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, encoded func() io.Reader) (link.Link, error) {
	return m.Detacher.DetachEncoded(ctx, name, mediaType, &meter{m, r}, encoded)
}

// forget takes back what was counted, for a mail that nobody accepted.
func (m *metered) forget() {
	if m != nil && m.counted > 0 {
		m.limit.add(m.sender, -m.counted)
		m.counted = 0
	}
}

// meter counts the bytes of one attachment.
type meter struct {
	m *metered
	r io.Reader
}

func (r *meter) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 && !r.m.limit.add(r.m.sender, int64(n)) {
		return 0, ErrSenderLimit
	}
	r.m.counted += int64(n)
	return n, err
}
