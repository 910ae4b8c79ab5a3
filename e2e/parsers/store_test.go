package parsers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

// A file is an attachment that was detached.
type file struct {
	name, mediaType, sha256, url string
	lines                        string // see listed
	content                      []byte
}

// A store keeps what is detached from one mail in memory. Its links lead nowhere.
type store struct {
	made  int
	files []file
}

func (s *store) Detach(_ context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return link.Link{}, err
	}
	s.made++
	hash, err := multihash.Sum([]byte(strconv.Itoa(s.made)), multihash.SHA2_256, -1)
	if err != nil {
		return link.Link{}, err
	}
	fragment, err := crypto.FragmentFromBytes(hash[2:])
	if err != nil {
		return link.Link{}, err
	}
	l := link.Link{Base: "https://files.example.org", CID: cid.NewCidV1(cid.DagProtobuf, hash), Fragment: fragment}
	lines := bytes.TrimRight(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), "\n")
	s.files = append(s.files, file{name, mediaType, sum(content), l.URL(), sum(lines), content})
	return l, nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func (s *store) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, _ func() io.Reader) (link.Link, error) {
	return s.Detach(ctx, name, mediaType, r)
}

func (s *store) Open(_ context.Context, l link.Link) (io.ReadCloser, error) {
	i := s.index(l)
	if i < 0 {
		return nil, errors.New("no such file")
	}
	return io.NopCloser(bytes.NewReader(s.files[i].content)), nil
}

func (s *store) Drop(_ context.Context, l link.Link) error {
	if i := s.index(l); i >= 0 {
		s.files = slices.Delete(s.files, i, i+1)
	}
	return nil
}

func (s *store) Expires() time.Time { return time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC) }

func (s *store) index(l link.Link) int {
	return slices.IndexFunc(s.files, func(f file) bool { return f.url == l.URL() })
}

// attachments returns what was detached, without the skeleton and the file list.
func (s *store) attachments() []file {
	return slices.DeleteFunc(slices.Clone(s.files), func(f file) bool {
		return f.mediaType == skeleton.Type || f.mediaType == filelist.Type
	})
}
