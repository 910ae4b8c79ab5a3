package proxy

// Result is what became of a message.
type Result string

const (
	Detached  Result = "detached"  // delivered, with links for its attachments
	Unchanged Result = "unchanged" // delivered as it came, for it had nothing to detach
	Original  Result = "original"  // delivered as it came, because storing failed (OnFailure)
	Refused   Result = "refused"   // by the next hop
	Rejected  Result = "rejected"  // by us, for good: too large, or going round in circles
	Deferred  Result = "deferred"  // by us: the sender keeps it and tries again
	Abandoned Result = "abandoned" // its client went away or fell silent before it had a reply
)

// Outcome is the end of one message, for who counts them.
type Outcome struct {
	Result      Result
	Reply       int   // the code that the client was told, or would have been
	Attachments int   // detached and delivered
	Bytes       int64 // of these, decoded
}

func (m *message) outcome(a answer, err error) Outcome {
	if err != nil {
		o := Outcome{Reply: reply(err).Code, Result: Deferred}
		switch {
		case o.Reply == errGone.Code:
			o.Result = Abandoned
		case o.Reply >= 500:
			o.Result = Rejected
		}
		return o
	}
	o := Outcome{Reply: a.code, Result: Refused}
	if !a.positive() {
		return o
	}
	switch {
	case m.original:
		o.Result = Original
	case m.batch != nil && m.stats.Detached > 0:
		o.Result, o.Attachments, o.Bytes = Detached, m.stats.Detached, m.stats.Bytes
	default:
		o.Result = Unchanged
	}
	return o
}
