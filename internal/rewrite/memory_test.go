package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// space returns a space for spools whose memory is size bytes.
func space(t testing.TB, size int64) *spool.Space {
	return spool.NewSpace(t.TempDir(), memory.New(size), 1<<40)
}

func wantNothingTaken(t *testing.T, s *spool.Space) {
	t.Helper()
	if used := s.Memory().Used(); used != 0 || s.Disk() != 0 {
		t.Errorf("%d bytes of memory and %d of disk are still taken", used, s.Disk())
	}
}

// multipart returns a mail of these parts.
func multipart(subtype string, parts ...string) string {
	return "MIME-Version: 1.0\r\nContent-Type: multipart/" + subtype + "; boundary=b\r\n\r\n--b\r\n" +
		strings.Join(parts, "\r\n--b\r\n") + "\r\n--b--\r\n"
}

const pdfPart = "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"

// A mail is rewritten without any memory of the budget, as it is with all of it.
func TestMailNeedsNoBudget(t *testing.T) {
	faults.Covers(t, 64)
	long := strings.Repeat("A long text, with lines of fifty characters each.\r\n", 2000)
	mails := map[string]string{
		"small":     multipart("mixed", "\r\nHello", pdfPart+"QUJD"),
		"long text": multipart("mixed", "\r\n"+long, pdfPart+"QUJD"),
		// Its text is encoded anew, so the edits are as long as the text.
		"encoded anew": multipart("mixed", "Content-Type: text/plain; charset=iso-8859-1\r\n\r\n"+long, pdfPart+"QUJD", pdfPart+"QUJD"),
		"many files":   multipart("mixed", slicesOf(pdfPart+"QUJD", 50)...),
		"one file":     "Subject: x\r\n" + pdfPart + "QUJD\r\n",
	}
	for name, mail := range mails {
		policy := Policy{MinSize: 1, Language: "ja", Restore: true}
		want, _ := mustRewrite(t, strings.NewReader(mail), policy, newMemory())
		policy.Space = space(t, 0)
		got, m := mustRewrite(t, strings.NewReader(mail), policy, newMemory())
		if m.Stats().Detached == 0 || name != "many files" && !bytes.Equal(got, want) {
			t.Errorf("%s: %d detached, got\n%s\nwant\n%s", name, m.Stats().Detached, got, want)
		}
		wantNothingTaken(t, policy.Space)
	}
}

func slicesOf(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// Large headers take memory of the budget. A part whose header gets none is kept.
func TestLargeHeadersShareTheBudget(t *testing.T) {
	faults.Covers(t, 64)
	large := strings.Repeat("X-Filler: 0123456789\r\n", 5000)
	mails := map[string]string{
		"of the mail": large + multipart("mixed", "\r\nHello", pdfPart+"QUJD"),
		"of a part":   multipart("mixed", "\r\nHello", large+pdfPart+"QUJD"),
		"of a text":   multipart("mixed", large+"\r\nHello", pdfPart+"QUJD"),
	}
	for name, mail := range mails {
		for _, size := range []int64{0, 4 << 20} {
			policy := Policy{MinSize: 1, Language: "en", Restore: true, Space: space(t, size)}
			out, m := mustRewrite(t, strings.NewReader(mail), policy, newMemory())
			if size > 0 || name == "of a text" {
				if m.Stats().Detached != 1 {
					t.Errorf("%s, budget %d: %d detached, want 1", name, size, m.Stats().Detached)
				}
			} else if string(out) != mail {
				t.Errorf("%s, without a budget: got\n%.200s", name, out)
			}
			wantNothingTaken(t, policy.Space)
		}
	}
}

// pausing is a reader that calls pause at its end.
type pausing struct {
	io.Reader
	pause func()
}

func (p pausing) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err == io.EOF {
		p.pause()
	}
	return n, err
}

// While a mail of the worst kinds waits for its end, it holds no more than a constant, in addition
// to a spool's memory.
func TestWaitingMailHoldsLittle(t *testing.T) {
	faults.Covers(t, 64)
	deep := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n"
	for i := range maxDepth - 1 {
		deep += fmt.Sprintf("--b%d\r\n%sContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, strings.Repeat("X: y\r\n", 8000), i+1)
	}
	var ids strings.Builder
	for i := range 400_000 {
		fmt.Fprintf(&ids, "<img src=cid:%d>", i)
	}
	for name, mail := range map[string]string{
		"nested headers": deep,
		"references":     multipart("related", "Content-Type: text/html\r\n\r\n"+ids.String(), "Content-Type: image/png\r\nContent-ID: <1>\r\n\r\nx"),
		"few references": multipart("related", "Content-Type: text/html\r\n\r\n"+ids.String()[:100_000], "Content-Type: image/png\r\nContent-ID: <1>\r\n\r\nx"),
		"damaged part":   multipart("mixed", pdfPart+strings.Repeat("QUJD\r\nQUI=\r\n", 100_000)),
	} {
		policy := Policy{MinSize: 1, Language: "en", Restore: true, Space: space(t, 64<<20)}
		held := int64(0)
		src := pausing{strings.NewReader(mail), func() { held = policy.Space.Memory().Used() }}
		m, err := Read(src, policy)
		must.Succeed(t, err)
		must.Succeed(t, m.Detach(t.Context(), newMemory()))
		t.Logf("%s: %d KiB held", name, held>>10)
		if held > 2<<20 {
			t.Errorf("%s: %d bytes are held, for a mail of %d", name, held, len(mail))
		}
		must.Succeed(t, m.Close())
		wantNothingTaken(t, policy.Space)
	}
}

// waitingStore is a Detacher that waits for memory, as one does that adds blocks.
type waitingStore struct {
	*memoryStore
	budget *memory.Budget
}

func (s waitingStore) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	if err := s.budget.Acquire(ctx, s.budget.Urgent()); err != nil {
		return link.Link{}, err
	}
	defer s.budget.Release(s.budget.Urgent())
	return s.memoryStore.Detach(ctx, name, mediaType, r)
}

func (s waitingStore) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, _ func() io.Reader) (link.Link, error) {
	return s.Detach(ctx, name, mediaType, r)
}

// A mail that is put together holds memory while its skeleton is stored, which waits for memory.
func TestMailsDoNotWaitForEachOther(t *testing.T) {
	policy := Policy{MinSize: 1, Language: "en", Restore: true, Space: space(t, 1<<20)}
	mail := multipart("mixed", "\r\n"+strings.Repeat("A long text, with lines of fifty characters each.\r\n", 5000), pdfPart+"QUJD")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			m, err := Read(strings.NewReader(mail), policy)
			if err == nil {
				err = errors.Join(m.Detach(ctx, waitingStore{newMemory(), policy.Space.Memory()}), m.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantNothingTaken(t, policy.Space)
}
