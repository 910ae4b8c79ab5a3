package rewrite

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// outcome rewrites a mail with several sizes of reads, and checks that the results are the same and
// that restoring gives the mail. It returns the rewritten mail and the attachments.
func outcome(t *testing.T, mail string) (string, []file) {
	t.Helper()
	var out string
	var files []file
	same := func(r io.Reader) io.Reader { return r }
	for i, reader := range []func(io.Reader) io.Reader{same, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		d := newMemory()
		got, m := mustRewrite(t, reader(strings.NewReader(mail)), Policy{MinSize: 1, Language: "en", Restore: true}, d)
		checkRestored(t, []byte(mail), got, m, d)
		if i > 0 && string(got) != out {
			t.Fatalf("reader %d: other bytes:\n%s\nwant\n%s", i, got, out)
		}
		out, files = string(got), d.attachments()
	}
	return out, files
}

func untouched(t *testing.T, mail string) {
	t.Helper()
	out, files := outcome(t, mail)
	if out != mail || len(files) != 0 {
		t.Errorf("%d attachments detached, want no change, of\n%.200s", len(files), mail)
	}
}

// detached checks that exactly these attachments are detached, and returns the rewritten mail.
func detached(t *testing.T, mail string, want ...string) string {
	t.Helper()
	out, files := outcome(t, mail)
	var got []string
	for _, f := range files {
		got = append(got, string(f.content))
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("detached %q, want %q", got, want)
	}
	return out
}

// multi returns a mail with a text and one PDF for each body.
func multi(bodies ...string) string {
	mail := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n"
	for _, body := range bodies {
		mail += "--b\r\n" + pdf(body)
	}
	return mail + "--b--\r\n"
}

// pdf returns a part with an attachment.
func pdf(body string) string {
	return "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body + "\r\n"
}

// encoded returns a mail with an attachment in a transfer encoding.
func encoded(encoding, body string) string {
	return strings.ReplaceAll(multi(body), "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: "+encoding)
}

const abc = "YWJj" // "abc" in base64

// manyParts returns a mail with n attachments, of which number i has the encoded body body(i).
func manyParts(n int, body func(i int) string) []byte {
	var b strings.Builder
	b.WriteString("Subject: many\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n")
	for i := range n {
		fmt.Fprintf(&b, "--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=%d.pdf\r\n"+
			"Content-Transfer-Encoding: base64\r\n\r\n%s", i, body(i))
	}
	b.WriteString("--b--\r\n")
	return []byte(b.String())
}

// mixed returns a mail with a text and one attachment of size random bytes.
func mixed(size int) []byte {
	content := make([]byte, size)
	rand.Read(content)
	var b bytes.Buffer
	b.WriteString("From: a@example.org\r\nSubject: files\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\n" +
		"--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHere it is.\r\n" +
		"--b1\r\nContent-Type: application/pdf; name=r.pdf\r\nContent-Disposition: attachment; filename=r.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	b.Write(transfer.EncodeBase64(content, "\r\n"))
	b.WriteString("\r\n--b1--\r\n")
	return b.Bytes()
}

// pieces is a reader that reads at most n bytes at a time.
type pieces struct {
	r io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(p.n, len(b))]) }

// encodeBody encodes content, without the line end that belongs to a delimiter.
func encodeBody(encoding string, content []byte) string {
	switch encoding {
	case "base64":
		content = transfer.EncodeBase64(content, "\r\n")
	case "quoted-printable":
		content = transfer.EncodeQuoted(content, "\r\n")
	}
	return string(content)
}

// memoryStore is a Detacher that keeps attachments in memory. Links depend only on name and
// content.
type memoryStore struct {
	files   map[string]file
	order   []link.Link
	expires time.Time
}

type file struct {
	name, mediaType string
	content         []byte
	encoded         []byte
}

func newMemory() *memoryStore { return &memoryStore{files: map[string]file{}} }

func (m *memoryStore) Detach(_ context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return link.Link{}, err
	}
	l := fakeLink(append([]byte(name), content...))
	if mediaType == skeleton.Type || mediaType == filelist.Type {
		l = fakeLink([]byte(name)) // so golden mails do not depend on the object's content
	}
	for again := byte('#'); m.has(l); again++ { // like a real Detacher, it stores equal attachments as separate objects
		l = fakeLink(append([]byte(name), append(content[:len(content):len(content)], again)...))
	}
	m.files[l.URL()] = file{name, mediaType, content, nil}
	m.order = append(m.order, l)
	return l, nil
}

func (m *memoryStore) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, encoded func() io.Reader) (link.Link, error) {
	l, err := m.Detach(ctx, name, mediaType, r)
	if err != nil {
		return l, err
	}
	f := m.files[l.URL()]
	if e := encoded(); e != nil {
		if f.encoded, err = io.ReadAll(e); err != nil {
			return l, err
		}
	}
	m.files[l.URL()] = f
	return l, nil
}

// part opens an attachment, or its encoded form.
func (m *memoryStore) part(ctx context.Context, l link.Link, encoded bool) (io.ReadCloser, error) {
	if f, ok := m.files[l.URL()]; ok && encoded {
		return io.NopCloser(bytes.NewReader(f.encoded)), nil
	}
	return m.Open(ctx, l)
}

func (m *memoryStore) has(l link.Link) bool { _, ok := m.files[l.URL()]; return ok }

func fakeLink(of []byte) link.Link {
	sum, err := mh.Sum(of, mh.SHA2_256, -1)
	fragment, err2 := crypto.FragmentFromBytes(sum[2:])
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	return link.Link{Base: "https://files.example.org", CID: cid.NewCidV1(cid.DagProtobuf, sum), Fragment: fragment}
}

func (m *memoryStore) Open(_ context.Context, l link.Link) (io.ReadCloser, error) {
	f, ok := m.files[l.URL()]
	if !ok {
		return nil, errors.New("no such file")
	}
	return io.NopCloser(bytes.NewReader(f.content)), nil
}

func (m *memoryStore) Drop(_ context.Context, l link.Link) error {
	delete(m.files, l.URL())
	return nil
}

func (m *memoryStore) Expires() time.Time { return m.expires }

// attachments returns the stored attachments, without dropped ones, skeletons and file lists.
func (m *memoryStore) attachments() []file {
	var fs []file
	for _, l := range m.order {
		if f, ok := m.files[l.URL()]; ok && f.mediaType != skeleton.Type && f.mediaType != filelist.Type {
			fs = append(fs, f)
		}
	}
	return fs
}

// rewriteAll rewrites a mail. It fails if WriteTo differs from HeaderChanges and WriteBodyTo.
func rewriteAll(src io.Reader, p Policy, d Detacher) ([]byte, *Message, error) {
	var mail, out, body bytes.Buffer
	m, err := Read(io.TeeReader(src, &mail), p)
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	if m.Passes() {
		_, err = m.WriteTo(&out)
		return out.Bytes(), m, err
	}
	if err := m.Detach(context.Background(), d); err != nil {
		return nil, nil, err
	}
	if _, err := m.WriteTo(&out); err != nil {
		return nil, nil, err
	}
	if _, err := m.WriteBodyTo(&body); err != nil {
		return nil, nil, err
	}
	header, err := changed(mail.String(), m.HeaderChanges())
	if err == nil && header+body.String() != out.String() {
		err = fmt.Errorf("header and body written separately: got %q, want %q", header+body.String(), out.String())
	}
	return out.Bytes(), m, err
}

func mustRewrite(t testing.TB, src io.Reader, p Policy, d Detacher) ([]byte, *Message) {
	t.Helper()
	out, m, err := rewriteAll(src, p, d)
	must.Succeed(t, err)
	return out, m
}

// changed returns the header of a mail with the changes applied like a mail server does for a
// milter: field by field, counting the received fields of each name.
func changed(mail string, changes []HeaderChange) (string, error) {
	blank, end := "", 0
	for blank != "\n" && blank != "\r\n" {
		blank = mail[end : end+strings.IndexByte(mail[end:], '\n')+1]
		end += len(blank)
	}
	fields := fieldsOf(strings.TrimSuffix(mail[:end], blank))
	kept := slices.Clone(fields)
	for _, c := range changes {
		name := strings.ToLower(c.Name)
		if !strings.HasPrefix(name, "content-") && name != "mime-version" && c.Name != skeleton.Field {
			return "", fmt.Errorf("the field %s must not change", c.Name)
		}
		if c.Occurrence == 0 {
			eol := "\r\n"
			if !strings.HasSuffix(strings.SplitAfter(fields[0], "\n")[0], eol) {
				eol = "\n"
			}
			kept = append(kept, c.Name+": "+c.Value+eol)
			continue
		}
		n := 0
		for i, f := range fields {
			key, value, _ := strings.Cut(f, ":")
			if !strings.EqualFold(strings.TrimSpace(key), name) {
				continue
			}
			if n++; n == c.Occurrence {
				if kept[i] = ""; strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r") != c.Value {
					return "", fmt.Errorf("value %q, want %q", c.Value, value)
				}
			}
		}
		if n < c.Occurrence {
			return "", fmt.Errorf("there is no field %s number %d", c.Name, c.Occurrence)
		}
	}
	return strings.Join(kept, "") + blank, nil
}
