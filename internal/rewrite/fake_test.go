package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

// memory is a Detacher that keeps what it is given. Its links follow from it alone.
type memory struct {
	files   map[string]file
	order   []link.Link
	expires time.Time
	fail    error // of Detach, after reading
	dropped int
}

type file struct {
	name, mediaType string
	content         []byte
}

func newMemory() *memory { return &memory{files: map[string]file{}} }

func (m *memory) Detach(_ context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return link.Link{}, err
	}
	if m.fail != nil {
		return link.Link{}, m.fail
	}
	l := fakeLink(append([]byte(name), content...))
	if mediaType == skeleton.Type || mediaType == filelist.Type {
		l = fakeLink([]byte(name)) // so that no golden mail hangs on its form
	}
	for again := byte('#'); m.has(l); again++ { // as a real one, it stores every attachment for itself
		l = fakeLink(append([]byte(name), append(content[:len(content):len(content)], again)...))
	}
	m.files[l.URL()] = file{name, mediaType, content}
	m.order = append(m.order, l)
	return l, nil
}

func (m *memory) has(l link.Link) bool { _, ok := m.files[l.URL()]; return ok }

func fakeLink(of []byte) link.Link {
	sum, err := mh.Sum(of, mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	fragment, err := crypto.FragmentFromBytes(sum[2:])
	if err != nil {
		panic(err)
	}
	return link.Link{Base: "https://files.example.org", CID: cid.NewCidV1(cid.DagProtobuf, sum), Fragment: fragment}
}

func (m *memory) Open(_ context.Context, l link.Link) (io.ReadCloser, error) {
	f, ok := m.files[l.URL()]
	if !ok {
		return nil, errors.New("no such file")
	}
	return io.NopCloser(bytes.NewReader(f.content)), nil
}

func (m *memory) Drop(_ context.Context, l link.Link) error {
	m.dropped++
	delete(m.files, l.URL())
	return nil
}

func (m *memory) Expires() time.Time { return m.expires }

// attachments are what was detached and not dropped, without skeletons and lists of files.
func (m *memory) attachments() []file {
	var fs []file
	for _, l := range m.order {
		if f, ok := m.files[l.URL()]; ok && f.mediaType != skeleton.Type && f.mediaType != filelist.Type {
			fs = append(fs, f)
		}
	}
	return fs
}

// rewriteAll passes a mail through and returns what comes out. It must come out the same in parts.
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
		err = fmt.Errorf("header and body apart: got %q, want %q", header+body.String(), out.String())
	}
	return out.Bytes(), m, err
}

// changed is the header of a mail with changes made as a milter's mail server makes them: field by
// field, counting those of a name as they were received.
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
			return "", fmt.Errorf("no field %d %s", c.Occurrence, c.Name)
		}
	}
	return strings.Join(kept, "") + blank, nil
}
