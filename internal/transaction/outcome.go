package transaction

import (
	"errors"

	"github.com/ipfs/go-cid"
)

// Result says what became of a mail.
type Result string

const (
	ResultDetached  Result = "detached"  // delivered, with links for its attachments
	ResultUnchanged Result = "unchanged" // delivered as it came: nothing was detached
	ResultOriginal  Result = "original"  // delivered as it came, because storing failed (Deliver)
	ResultRefused   Result = "refused"   // by the next hop
	ResultRejected  Result = "rejected"  // by us, for good: ErrRejected
	ResultDeferred  Result = "deferred"  // by us: the sender keeps it and tries again
	ResultAbandoned Result = "abandoned" // by the client: ErrAbandoned
)

// Errors of a door's source wrap these, which decide the Result.
var (
	ErrRejected  = errors.New("the message will never be accepted") // too large, or in a mail loop
	ErrAbandoned = errors.New("the client is gone or silent")
)

// An Outcome says how a mail ended. It is for metrics and for the log.
type Outcome struct {
	Result      Result
	In, Out     int64     // bytes of the mail as read and as written
	Attachments int       // detached, and still stored
	Bytes       int64     // of these attachments, decoded
	CIDs        []cid.Cid // what stays stored for the mail
}

// Outcome returns how the mail ended, after Settle. err is nil if the next hop has answered.
func (t *Transaction) Outcome(err error) Outcome {
	o := Outcome{Result: t.result(err), In: t.source.size, Out: t.written, CIDs: t.kept}
	if len(t.kept) > 0 {
		stats := t.message.Stats()
		o.Attachments, o.Bytes = stats.Detached, stats.Bytes
	}
	return o
}

func (t *Transaction) result(err error) Result {
	switch {
	case errors.Is(err, ErrAbandoned):
		return ResultAbandoned
	case errors.Is(err, ErrRejected):
		return ResultRejected
	case err != nil || t.fate == Unknown:
		return ResultDeferred
	case t.fate == Refused:
		return ResultRefused
	case t.replaced:
		return ResultOriginal
	case t.Unchanged():
		return ResultUnchanged
	}
	return ResultDetached
}
