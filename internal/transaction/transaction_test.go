package transaction_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	. "github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/transaction/transactiontest"
)

type behavior = transactiontest.Behavior

var (
	attachment = transactiontest.Mail
	errDown    = transactiontest.ErrDown
)

// plain has nothing to detach, as its header shows.
const plain = "Subject: x\r\n\r\nHello.\r\n"

// policy detaches everything.
func policy(Envelope) rewrite.Policy { return rewrite.Policy{MinSize: 1, Language: "en"} }

// mail is a transaction with a store that keeps nothing. It is closed at the end of the test.
type mail struct {
	*Transaction
	store transactiontest.Store
	log   bytes.Buffer
}

func begin(t *testing.T, src io.Reader, mode OnFailure, b behavior) *mail {
	tx := &mail{}
	tx.store.Set(b)
	cfg := Config{Policy: policy, Begin: tx.store.Begin, OnFailure: mode}
	tx.Transaction = Begin(cfg, Envelope{}, src, slog.New(slog.NewTextHandler(&tx.log, nil)))
	t.Cleanup(func() { tx.Close(t.Context()) })
	return tx
}

// deliver takes the mail to the last step before its fate.
func (t *mail) deliver(ctx context.Context) (out string, err error) {
	var w strings.Builder
	if err = t.Receive(ctx, time.Minute); err == nil {
		_, err = t.WriteTo(&w)
	}
	if err == nil {
		err = t.Commit(ctx)
	}
	return w.String(), err
}

func TestFateDecidesWhatStays(t *testing.T) {
	for name, c := range map[string]struct {
		src      string
		behavior behavior
		fate     Fate
		want     string // of the batch
		end      Outcome
	}{
		"accepted":       {attachment(1000), behavior{}, Accepted, "committed closed ", Outcome{Result: ResultDetached, Attachments: 1, Bytes: 1000}},
		"refused":        {attachment(1000), behavior{}, Refused, "committed discarded closed ", Outcome{Result: ResultRefused}},
		"unknown":        {attachment(1000), behavior{}, Unknown, "committed closed ", Outcome{Result: ResultDeferred, Attachments: 1, Bytes: 1000}},
		"not stored":     {attachment(1000), behavior{Failure: errDown, FailAfter: 10}, Refused, "discarded closed ", Outcome{Result: ResultDeferred}},
		"not committed":  {attachment(1000), behavior{Commit: errDown}, Refused, "discarded closed ", Outcome{Result: ResultDeferred}},
		"passes":         {plain, behavior{}, Accepted, "none", Outcome{Result: ResultUnchanged}},
		"passes, no end": {plain, behavior{}, Unknown, "none", Outcome{Result: ResultDeferred}},
	} {
		t.Run(name, func(t *testing.T) {
			tx := begin(t, strings.NewReader(c.src), TempFail, c.behavior)
			out, err := tx.deliver(t.Context())
			tx.Settle(t.Context(), c.fate)
			tx.Settle(t.Context(), Refused) // too late
			tx.Close(t.Context())
			if got := tx.store.Last(); got != c.want {
				t.Errorf("batch %q, want %q", got, c.want)
			}
			o := tx.Outcome(err)
			if o.Result != c.end.Result || o.Attachments != c.end.Attachments || o.Bytes != c.end.Bytes || len(o.CIDs) != o.Attachments {
				t.Errorf("outcome %+v, want %+v", o, c.end)
			}
			if o.In != int64(len(c.src)) && err == nil || o.Out != int64(len(out)) {
				t.Errorf("outcome %+v after %d bytes in and %d out", o, len(c.src), len(out))
			}
		})
	}
}

// After a panic no door settles. The next hop may have the mail only after Commit.
func TestCloseSettlesAfterAPanic(t *testing.T) {
	for want, panics := range map[string]bool{"discarded closed ": true, "committed closed ": false} {
		tx := begin(t, strings.NewReader(attachment(1000)), TempFail, behavior{Panics: panics})
		func() {
			defer func() { recover() }()
			defer tx.Close(t.Context())
			tx.deliver(t.Context())
			panic("after Commit")
		}()
		if got := tx.store.Last(); got != want {
			t.Errorf("batch %q, want %q", got, want)
		}
	}
}

// Deleting goes on when the caller's context ends, but not for longer than DiscardTimeout.
func TestSlowDiscardEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tx := begin(t, strings.NewReader(attachment(1000)), TempFail, behavior{SlowDiscard: true})
		ctx, cancel := context.WithCancel(t.Context())
		tx.deliver(ctx)
		cancel()
		start := time.Now()
		tx.Settle(ctx, Refused)
		if d := time.Since(start); d != DiscardTimeout {
			t.Errorf("settled after %v, want %v", d, DiscardTimeout)
		}
		if got := tx.store.Last(); got != "committed closed " || !strings.Contains(tx.log.String(), transactiontest.CID.String()) {
			t.Errorf("batch %q, log %q", got, &tx.log)
		}
	})
}

// A store may keep the source waiting for patience, or for half of it if the original follows.
func TestSlowStoreFails(t *testing.T) {
	src := attachment(100_000)
	for _, c := range []struct {
		mode     OnFailure
		behavior behavior
		want     time.Duration
		err      error
	}{
		{TempFail, behavior{}, 0, nil},
		{TempFail, behavior{Hangs: true}, time.Minute, ErrSlow},
		{Deliver, behavior{Hangs: true}, 30 * time.Second, nil},
		{Deliver, behavior{Hangs: true, Failure: errDown, FailAfter: 100}, 30 * time.Second, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			tx := begin(t, strings.NewReader(src), c.mode, c.behavior)
			start := time.Now()
			if _, err := tx.deliver(t.Context()); !errors.Is(err, c.err) || time.Since(start) != c.want {
				t.Errorf("%+v: %v after %v, want %v after %v", c.behavior, err, time.Since(start), c.err, c.want)
			}
		})
	}
}

// The source may be slower than patience, as long as storing is not.
func TestSlowSourceIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tx := begin(t, slowReader{strings.NewReader(attachment(10_000))}, TempFail, behavior{})
		_, err := tx.deliver(t.Context())
		must.Succeed(t, err)
	})
}

type slowReader struct{ io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Minute)
	return s.Reader.Read(p[:min(len(p), 1000)])
}

// The original goes on only if storing fails, not if the source or the caller does.
func TestOriginalIsNotForFaultsOfOthers(t *testing.T) {
	down := behavior{Failure: errDown}
	broken := errors.New("broken")
	half := func(err error) io.Reader {
		return io.MultiReader(strings.NewReader(attachment(1000)[:600]), iotest.ErrReader(err))
	}
	for name, c := range map[string]struct {
		src      io.Reader
		behavior behavior
		want     error
		end      Result
	}{
		"source fails":         {half(broken), behavior{}, broken, ResultDeferred},
		"source fails as well": {half(broken), down, broken, ResultDeferred},
		"client gone":          {half(ErrAbandoned), down, ErrAbandoned, ResultAbandoned},
		"too large":            {half(ErrRejected), down, ErrRejected, ResultRejected},
		"in the header":        {iotest.ErrReader(broken), behavior{}, broken, ResultDeferred},
	} {
		t.Run(name, func(t *testing.T) {
			tx := begin(t, c.src, Deliver, c.behavior)
			_, err := tx.deliver(t.Context())
			tx.Close(t.Context())
			if o := tx.Outcome(err); !errors.Is(err, c.want) || o.Result != c.end {
				t.Errorf("got %v, %v; want %v, %v", err, o.Result, c.want, c.end)
			}
			if got := tx.store.Last(); got != "discarded closed " && got != "none" {
				t.Errorf("batch %q, want discarded", got)
			}
		})
	}
	t.Run("caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		begun := make(chan struct{})
		tx := begin(t, strings.NewReader(attachment(1000)), Deliver, behavior{Hangs: true, Begun: begun})
		go func() { <-begun; cancel(broken) }()
		if _, err := tx.deliver(ctx); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	})
	t.Run("no space for the spool", func(t *testing.T) {
		store := transactiontest.Store{}
		store.Set(behavior{Failure: errDown, FailAfter: 2 << 20})
		cfg := Config{OnFailure: Deliver, Begin: store.Begin, Policy: func(Envelope) rewrite.Policy {
			return rewrite.Policy{MinSize: 1, Space: spool.NewSpace("/nowhere", nil, 1<<40)}
		}}
		tx := Begin(cfg, Envelope{}, strings.NewReader(attachment(2<<20)), slog.New(slog.DiscardHandler))
		defer tx.Close(t.Context())
		if err := tx.Receive(t.Context(), 0); !errors.Is(err, errDown) {
			t.Errorf("got %v, want %v", err, errDown)
		}
	})
}

func TestPassingMailIsWrittenOnlyWhole(t *testing.T) {
	broken := errors.New("broken")
	tx := begin(t, io.MultiReader(strings.NewReader(plain), iotest.ErrReader(broken)), TempFail, behavior{})
	if _, err := tx.deliver(t.Context()); !tx.Passes() || !errors.Is(err, broken) {
		t.Errorf("passes %v, %v; want %v", tx.Passes(), err, broken)
	}
}

// A milter changes header fields and replaces the body, so it needs the two parts.
func TestHeaderChangesAndBodyAreTheMailInTwoParts(t *testing.T) {
	src := attachment(1000)
	tx := begin(t, strings.NewReader(src), TempFail, behavior{})
	whole, err := tx.deliver(t.Context())
	must.Succeed(t, err)
	var body strings.Builder
	_, err = tx.WriteBodyTo(&body)
	header, want, _ := strings.Cut(whole, "\r\n\r\n")
	if err != nil || tx.Unchanged() || body.String() != want {
		t.Errorf("unchanged %v, %v, body %q, want %q", tx.Unchanged(), err, &body, want)
	}
	received, _, _ := strings.Cut(src, "\r\n\r\n")
	if changed := len(tx.HeaderChanges()) > 0; changed != (header != received) {
		t.Errorf("header changes %v for the header %q", tx.HeaderChanges(), header)
	}
	for mode, src := range map[OnFailure]string{TempFail: plain, Deliver: attachment(1000)} {
		tx := begin(t, strings.NewReader(src), mode, behavior{Failure: errDown})
		if _, err := tx.deliver(t.Context()); err != nil || !tx.Unchanged() {
			t.Errorf("unchanged %v, %v; want a mail as it came", tx.Unchanged(), err)
		}
	}
}

func TestPolicyIsAFunctionOfTheEnvelope(t *testing.T) {
	env := Envelope{Sender: "a@example.org", Recipients: []string{"b@example.org"}, Listener: "127.0.0.1:10025", Client: "192.0.2.1", User: "a"}
	var asked Envelope
	cfg := Config{Begin: (&transactiontest.Store{}).Begin, Policy: func(e Envelope) rewrite.Policy {
		asked = e
		return rewrite.Policy{MinSize: 1 << 40}
	}}
	tx := Begin(cfg, env, strings.NewReader(attachment(1000)), slog.New(slog.DiscardHandler))
	defer tx.Close(t.Context())
	must.Succeed(t, tx.Receive(t.Context(), 0))
	var out strings.Builder
	if _, err := tx.WriteTo(&out); err != nil || out.String() != attachment(1000) || asked.Sender != env.Sender || asked.User != env.User {
		t.Errorf("asked for %+v, %v, got %q", asked, err, &out)
	}
}
