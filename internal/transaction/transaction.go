package transaction

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
)

// An Envelope is what a door knows about a mail besides its bytes. An unknown field is empty.
type Envelope struct {
	Sender     string   // without angle brackets; empty for a bounce too
	Recipients []string // those that were accepted
	Listener   string   // the address at which the mail came in
	Client     string   // the IP address of the client that the mail came from
	User       string   // the client's name, if it has authenticated
}

// A Batch holds what is stored for one mail until the mail's fate is known. It is not safe for
// concurrent use.
type Batch interface {
	rewrite.Detacher
	// Commit makes the batch's links work.
	Commit(ctx context.Context) error
	// Discard deletes everything that was stored, committed or not.
	Discard(ctx context.Context) error
	// Close is the last call. What Discard could not delete is deleted by a later attempt.
	Close() error
	// CIDs returns what is stored, for the log.
	CIDs() []cid.Cid
}

// OnFailure says what becomes of a mail whose attachments cannot be stored.
type OnFailure int

const (
	TempFail OnFailure = iota // the sender keeps it and tries again
	Deliver                   // the original goes on unchanged; each mail takes a spool for it
)

// Config says what is done to mails. Policy and Begin must not be nil.
type Config struct {
	Policy    func(Envelope) rewrite.Policy // what is detached and what is left in its place
	Begin     func() Batch                  // called for a mail that may have attachments
	OnFailure OnFailure
	// SenderLimit may be nil. The attachments of a mail over the limit cannot be stored, so
	// OnFailure decides.
	SenderLimit *SenderLimit
}

// Fate says what the next hop did with a mail.
type Fate int

const (
	Refused  Fate = iota // only the sender has the mail
	Accepted             // the next hop has it, for at least one recipient
	Unknown              // the next hop may have it
)

// DiscardTimeout bounds the deletion of what a failed mail stored: the client waits for a reply.
const DiscardTimeout = 5 * time.Second

// ErrSlow is returned by Receive when storing has kept the source waiting for too long.
var ErrSlow = errors.New("not stored in time for the client")

// errNotWhole keeps the beginning of a mail from being passed on as if it were the whole mail.
var errNotWhole = errors.New("message was not read to its end")

// A Transaction is one mail. It is not safe for concurrent use.
type Transaction struct {
	cfg    Config
	policy rewrite.Policy
	source *source
	log    *slog.Logger
	sender uint64 // see SenderLimit

	metered   *metered // nil: without a SenderLimit
	message   *rewrite.Message
	batch     Batch // nil: nothing is stored, or the mail's fate is decided
	replaced  bool  // storing has failed, and the original goes on
	committed bool
	written   int64
	settled   bool
	fate      Fate
	kept      []cid.Cid
}

// Begin starts the transaction of a mail whose bytes come from src. It reads nothing yet.
func Begin(cfg Config, env Envelope, src io.Reader, log *slog.Logger) *Transaction {
	t := &Transaction{cfg: cfg, policy: cfg.Policy(env), source: &source{src: src}, log: log, sender: cfg.SenderLimit.sender(env)}
	if cfg.OnFailure == Deliver {
		t.source.keepOriginal(t.policy.Space)
	}
	return t
}

// Receive reads the mail to its end and stores its attachments while they arrive. If the header
// shows that nothing can be detached, Receive stops there: Passes is true, and WriteTo reads on.
//
// Storing fails with ErrSlow if it keeps the source waiting for longer than patience, or for longer
// than half of it if OnFailure is Deliver. A patience of 0 is without limit.
//
// An error means that the mail must not be passed on. If storing fails and OnFailure is Deliver,
// Receive reads on to the end of the mail and succeeds, and WriteTo writes the original.
func (t *Transaction) Receive(ctx context.Context, patience time.Duration) error {
	if t.cfg.OnFailure == Deliver {
		patience /= 2
	}
	err := t.store(ctx, patience)
	if err == nil {
		t.source.forgetOriginal()
		return nil
	}
	// The original does not help if the source has failed or the caller has given up.
	if t.source.original == nil || t.source.failed() || ctx.Err() != nil {
		return err
	}
	t.log.Warn("storing failed, passing the original on", "err", err)
	t.discard(ctx)
	if _, err := io.Copy(io.Discard, t.source); err != nil {
		return err
	}
	if t.source.original == nil { // the spool has failed too
		return err
	}
	t.replaced = true
	return nil
}

func (t *Transaction) store(ctx context.Context, patience time.Duration) (err error) {
	if t.message, err = rewrite.Read(t.source, t.policy); err != nil || t.message.Passes() {
		return err
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	if patience > 0 {
		defer t.source.limitWaiting(patience, func() { giveUp(ErrSlow) })()
	}
	t.batch = t.cfg.Begin()
	err = t.message.Detach(ctx, t.detacher())
	if err == nil && !t.source.ended {
		err = errNotWhole
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// detacher returns the batch, which counts for the sender if there is a limit.
func (t *Transaction) detacher() rewrite.Detacher {
	if t.cfg.SenderLimit == nil {
		return t.batch
	}
	t.metered = &metered{Detacher: t.batch, limit: t.cfg.SenderLimit, sender: t.sender}
	return t.metered
}

// Passes reports whether the header alone showed that nothing can be detached.
func (t *Transaction) Passes() bool { return t.message != nil && t.message.Passes() }

// Unchanged reports, after Receive has succeeded, whether the mail goes on as it came. A door that
// still has the mail then need not write it.
func (t *Transaction) Unchanged() bool { return t.replaced || t.message.Stats().Detached == 0 }

// WriteTo writes the mail that goes on, rewritten or as it came, after Receive has succeeded. It
// reads a mail that passes from its source, so that such a mail can be written only once.
func (t *Transaction) WriteTo(w io.Writer) (int64, error) {
	if t.replaced {
		return t.write(w, t.source.original.WriteTo)
	}
	return t.write(w, t.message.WriteTo)
}

// HeaderChanges returns what differs in the header of a mail that is not Unchanged. A door that
// changes a mail in place uses HeaderChanges and WriteBodyTo instead of WriteTo.
func (t *Transaction) HeaderChanges() []rewrite.HeaderChange { return t.message.HeaderChanges() }

// WriteBodyTo writes what follows the header and its blank line in a mail that is not Unchanged.
func (t *Transaction) WriteBodyTo(w io.Writer) (int64, error) {
	return t.write(w, t.message.WriteBodyTo)
}

func (t *Transaction) write(w io.Writer, writeTo func(io.Writer) (int64, error)) (int64, error) {
	n, err := writeTo(w)
	t.written += n
	if err == nil && !t.source.ended {
		err = errNotWhole
	}
	return n, err
}

// Commit makes the links work. It is the last step before the door ends the mail, so that a crash
// leaves as few links as possible that no mail has.
func (t *Transaction) Commit(ctx context.Context) error {
	if t.batch == nil {
		return nil
	}
	err := t.batch.Commit(ctx)
	t.committed = err == nil
	return err
}

// Settle keeps or deletes what was stored for the mail. Only the first call counts. Deleting takes
// DiscardTimeout at most, and goes on when ctx is canceled.
func (t *Transaction) Settle(ctx context.Context, f Fate) {
	if t.settled {
		return
	}
	t.settled, t.fate = true, f
	if f == Refused {
		t.discard(ctx)
	} else if t.batch != nil {
		t.kept = t.batch.CIDs()
		t.release()
	}
}

func (t *Transaction) discard(ctx context.Context) {
	t.metered.forget()
	if t.batch == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DiscardTimeout)
	defer cancel()
	if err := t.batch.Discard(ctx); err != nil {
		t.log.Warn("stored attachments of a failed mail are not deleted yet", "err", err, "cids", t.batch.CIDs())
	}
	t.release()
}

// release closes the batch, kept or discarded.
func (t *Transaction) release() {
	if t.batch == nil {
		return
	}
	if err := t.batch.Close(); err != nil {
		t.log.Warn("cannot remove the record of a mail", "err", err)
	}
	t.batch = nil
}

// Close gives back what the transaction holds. It settles a mail that was not settled: as Unknown
// if its links may work, because the next hop may have it, and as Refused otherwise.
func (t *Transaction) Close(ctx context.Context) {
	defer t.release() // discarding may panic
	fate := Refused
	if t.committed {
		fate = Unknown
	}
	t.Settle(ctx, fate)
	t.source.forgetOriginal()
	if t.message != nil {
		t.message.Close()
	}
}
