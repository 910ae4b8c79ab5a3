package embedded

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// listAtOnce is how many files List reads from the directory at a time.
const listAtOnce = 1024

// List implements [ipfs.Store]. It reads the directory and no file. The store has no names: an
// object's metadata tells its epoch.
func (s *Store) List(ctx context.Context, _ string, yield func(ipfs.Item) error) error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return ipfs.Unavailable("list objects", err)
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(listAtOnce)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return ipfs.Unavailable("list objects", err)
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := s.listed(e, yield); err != nil {
				return err
			}
		}
	}
}

// listed yields the object in a file, if the file is one.
func (s *Store) listed(e fs.DirEntry, yield func(ipfs.Item) error) error {
	name, ok := strings.CutSuffix(e.Name(), carSuffix)
	root, err := cid.Decode(name)
	if !ok || err != nil || root.String() != name {
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return ipfs.Unavailable("list objects", err)
	}
	return yield(ipfs.Item{Root: root, Size: info.Size()})
}

// Rename implements [ipfs.Store]: the store has no names.
func (s *Store) Rename(context.Context, cid.Cid, string) error { return nil }
