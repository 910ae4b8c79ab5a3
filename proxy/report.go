package proxy

import (
	"context"
	"log/slog"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// A report is what is known of a message once its client has been answered.
type report struct {
	outcome transaction.Outcome
	code    int   // of our reply
	err     error // nil: the reply is the next hop's
	passes  bool  // see transaction.Transaction.Passes
	took    time.Duration
}

func newReport(mail *transaction.Transaction, v verdict, err error, took time.Duration) report {
	r := report{outcome: mail.Outcome(err), code: v.code, err: err, passes: mail.Passes(), took: took}
	if err != nil {
		r.code = reply(err).Code
	}
	return r
}

// log writes the one log line of a message.
func (r report) log(ctx context.Context, log *slog.Logger) {
	level, o := slog.LevelInfo, r.outcome
	attrs := []any{
		"reply", r.code, "duration", r.took.Round(time.Millisecond), "in", o.In, "out", o.Out,
		"passes", r.passes, "attachments", o.Attachments, "detached", o.Bytes,
	}
	if len(o.CIDs) > 0 {
		attrs = append(attrs, "cids", o.CIDs)
	}
	if o.Result == transaction.ResultOriginal {
		attrs = append(attrs, "original", true)
	}
	if r.err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, "err", r.err)
	}
	log.Log(ctx, level, "message", attrs...)
}
