package rewrite

import (
	"bytes"
	"context"
	"errors"
	"io"
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

// rewriteAll passes a mail through and returns what comes out.
func rewriteAll(src io.Reader, p Policy, d Detacher) ([]byte, *Message, error) {
	m, err := Read(src, p)
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	if !m.Passes() {
		if err := m.Detach(context.Background(), d); err != nil {
			return nil, nil, err
		}
	}
	var out bytes.Buffer
	_, err = m.WriteTo(&out)
	return out.Bytes(), m, err
}
