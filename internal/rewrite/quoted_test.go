package rewrite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// oddQuoted encodes n bytes, and escapes characters as no encoder does.
func oddQuoted(n int) (content, body string) {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	var c, b strings.Builder
	for c.Len() < n {
		line := fmt.Sprintf("a secret line %d of the file\r\n", c.Len())
		c.WriteString(line)
		for _, r := range []byte(line) {
			if r > ' ' && rnd.IntN(4) == 0 {
				fmt.Fprintf(&b, "=%02X", r)
			} else {
				b.WriteByte(r)
			}
		}
	}
	return strings.TrimSuffix(c.String(), "\r\n"), strings.TrimSuffix(b.String(), "\r\n")
}

func regularQuoted(n int) (content, body string) {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "a secret line %d of the file, a = b\r\n", b.Len())
	}
	return b.String() + "end", string(transfer.EncodeQuoted([]byte(b.String()+"end"), "\r\n"))
}

// storedSkeleton returns the skeleton that was stored.
func (m *memoryStore) storedSkeleton(t *testing.T) []byte {
	t.Helper()
	for _, l := range m.order {
		if f := m.files[l.URL()]; f.mediaType == skeleton.Type {
			return f.content
		}
	}
	t.Fatal("no skeleton was stored")
	return nil
}

// No byte of an attachment is in the skeleton, so taking the attachment back takes the original
// back. Only the encoded form that no rule writes again is stored beside an attachment.
func TestAttachmentsAreNotInTheSkeleton(t *testing.T) {
	content, body := regularQuoted(300 << 10)
	oddContent, oddBody := oddQuoted(300 << 10)
	for name, tt := range map[string]struct {
		encoding, body, content, encoded string
	}{
		"quoted-printable":     {"quoted-printable", body, content, ""},
		"odd quoted-printable": {"quoted-printable", oddBody, oddContent, oddBody},
		"short, odd":           {"quoted-printable", "= \r\n=61= \t\r\nb", "ab", "= \r\n=61= \t\r\nb"},
		"base64":               {"base64", encodeBody("base64", []byte(content)), content, ""},
		"8bit":                 {"8bit", content, content, ""},
		"without restore, odd": {"quoted-printable", oddBody, oddContent, ""},
	} {
		mail := encoded(tt.encoding, tt.body)
		p := Policy{MinSize: 1, Restore: !strings.HasPrefix(name, "without")}
		d := newMemory()
		got, m := mustRewrite(t, strings.NewReader(mail), p, d)
		files := d.attachments()
		if len(files) != 1 || string(files[0].content) != tt.content || string(files[0].encoded) != tt.encoded {
			t.Fatalf("%s: %d files, encoded form of %d bytes, want %d", name, len(files), len(files[0].encoded), len(tt.encoded))
		}
		if !p.Restore {
			continue
		}
		checkRestored(t, []byte(mail), got, m, d)
		s := d.storedSkeleton(t)
		if len(s) > len(mail)-len(tt.body)+1000 || bytes.Contains(s, []byte("secret")) || bytes.Contains(s, []byte("secre=74")) {
			t.Errorf("%s: the skeleton has %d bytes, and some are the attachment's", name, len(s))
		}
	}
}

// A part whose encoder stops keeping to its rule, and one whose encoded form is too long to be kept
// beside it, stay in the mail.
func TestQuotedPrintableWithoutARuleIsKept(t *testing.T) {
	_, regular := regularQuoted(100 << 10)
	_, odd := oddQuoted(20 << 10)
	_, large := oddQuoted(transfer.MaxEncoded)
	for name, body := range map[string]string{"a rule that breaks late": regular + "\r\n" + odd, "a long encoded form": large} {
		for _, n := range []int{1000, 1 << 20} {
			mail := encoded("quoted-printable", body)
			d := newMemory()
			got, m := mustRewrite(t, pieces{strings.NewReader(mail), n}, Policy{MinSize: 1000, Restore: true}, d)
			if string(got) != mail || m.Stats().Detached != 0 || len(d.files) != 0 {
				t.Errorf("%s, reads of %d: %d detached, %d stored, %d bytes, want the mail", name, n, m.Stats().Detached, len(d.files), len(got))
			}
		}
	}
}

// Attachments of all kinds leave little behind: at most one of them has a spool at a time, and a
// layout is small.
func TestAttachmentsLeaveLittleBehind(t *testing.T) {
	_, odd := oddQuoted(1100 << 10)
	dir := t.TempDir()
	const parts = 12
	var mail strings.Builder
	mail.WriteString(multi())
	for range parts {
		mail.WriteString("--b\r\n" + strings.Replace(pdf(odd), "base64", "quoted-printable", 1))
	}
	space := spool.NewSpace(dir, nil, 1<<30)
	d := &openFiles{memoryStore: newMemory(), dir: dir}
	_, m, err := rewriteAll(strings.NewReader(strings.Replace(mail.String(), "--b--\r\n", "", 1)+"--b--\r\n"), Policy{MinSize: 1000, Restore: true, Space: space}, d)
	must.Succeed(t, err)
	if _, err := os.Stat("/proc/self/fd"); err == nil && d.most == 0 || m.Stats().Detached != parts || d.most > 2 {
		t.Errorf("%d of %d detached, with up to %d open files, want 1 or 2", m.Stats().Detached, parts, d.most)
	}
	for _, c := range m.walk.cuts.list {
		if c.layout.Size() > 0 {
			t.Errorf("a layout of %d runs and exceptions for an encoded form", c.layout.Size())
		}
	}
}

// openFiles is a Detacher that counts the files of spools that are open while it stores.
type openFiles struct {
	*memoryStore
	dir  string
	most int
}

func (o *openFiles) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, encoded func() io.Reader) (link.Link, error) {
	return o.memoryStore.DetachEncoded(ctx, name, mediaType, r, func() io.Reader {
		o.count()
		return encoded()
	})
}

func (o *openFiles) count() {
	n := 0
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range links {
		if name, err := os.Readlink(fd); err == nil && strings.HasPrefix(name, o.dir) {
			n++
		}
	}
	o.most = max(o.most, n)
}
