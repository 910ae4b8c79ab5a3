package transaction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
)

// taking is a batch that reads what it gets, and has no links.
type taking struct{ Batch }

func (taking) Detach(_ context.Context, _, _ string, r io.Reader) (link.Link, error) {
	_, err := io.Copy(io.Discard, r)
	return link.Link{}, err
}

func (t taking) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, _ func() io.Reader) (link.Link, error) {
	return t.Detach(ctx, name, mediaType, r)
}

func (taking) Expires() time.Time            { return time.Time{} }
func (taking) Commit(context.Context) error  { return nil }
func (taking) Discard(context.Context) error { return nil }
func (taking) Close() error                  { return nil }
func (taking) CIDs() []cid.Cid               { return nil }

// fileOf is a mail with a file of so many bytes.
func fileOf(size int) string {
	return "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n" +
		"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\n" + strings.Repeat("x", size) + "\r\n--b--\r\n"
}

func TestSenderHasItsShareOfADay(t *testing.T) {
	limit := NewSenderLimit(1000)
	now := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	limit.now = func() time.Time { return now }
	send := func(env Envelope, size int, mode OnFailure, fate Fate) error {
		cfg := Config{
			Policy:    func(Envelope) rewrite.Policy { return rewrite.Policy{MinSize: 1, Language: "en"} },
			Begin:     func() Batch { return taking{} },
			OnFailure: mode, SenderLimit: limit,
		}
		tx := Begin(cfg, env, strings.NewReader(fileOf(size)), slog.New(slog.DiscardHandler))
		defer tx.Close(t.Context())
		err := tx.Receive(t.Context(), 0)
		if err == nil {
			tx.Settle(t.Context(), fate)
		}
		if o := tx.Outcome(err); err != nil && o.Result != ResultDeferred {
			t.Errorf("the outcome is %v", o.Result)
		}
		return err
	}
	ann, anns := Envelope{Sender: "ann@example.org"}, Envelope{Sender: "Ann@Example.org"}
	for _, c := range []struct {
		what string
		env  Envelope
		size int
		mode OnFailure
		fate Fate
		want error
		next time.Duration // passes before
	}{
		{"the first", ann, 600, TempFail, Accepted, nil, 0},
		{"more than is left", anns, 401, TempFail, Accepted, ErrSenderLimit, 0},
		{"more than is left, to be delivered", anns, 401, Deliver, Accepted, nil, 0},
		{"another sender", Envelope{Sender: "bob@example.org"}, 1000, TempFail, Accepted, nil, 0},
		{"a user by her name", Envelope{Sender: "ann@example.org", User: "ann"}, 1000, TempFail, Accepted, nil, 0},
		{"no sender", Envelope{}, 1000, TempFail, Accepted, nil, 0},
		{"no sender again", Envelope{}, 1, TempFail, Accepted, ErrSenderLimit, 0},
		{"refused behind", ann, 400, TempFail, Refused, nil, 0},
		{"what was refused is not counted", ann, 400, TempFail, Accepted, nil, 0},
		{"nothing is left", ann, 1, TempFail, Accepted, ErrSenderLimit, 0},
		{"the next day", ann, 1000, TempFail, Accepted, nil, time.Hour},
	} {
		now = now.Add(c.next)
		if err := send(c.env, c.size, c.mode, c.fate); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
	}
	for i := range 2 * maxSenders {
		limit.add(limit.sender(Envelope{Sender: fmt.Sprint(i)}), 1)
	}
	if n := limit.stored.Len(); n > maxSenders {
		t.Errorf("%d senders are in memory, want at most %d", n, maxSenders)
	}
	if NewSenderLimit(0) != nil {
		t.Error("0 is a limit")
	}
}
