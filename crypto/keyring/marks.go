package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

const (
	destroyedDir = "destroyed"
	// allMark is the name of the mark for a whole epoch. It is not a CID.
	allMark = "all"
)

// marks are the empty files in destroyed/EPOCH. Each says that a secret was destroyed.
type marks struct {
	dir string // the keyring's
}

func (m marks) folder(e crypto.Epoch) string {
	return filepath.Join(m.dir, destroyedDir, string(e))
}

// has reports whether destroyed/EPOCH has a mark of this name.
func (m marks) has(e crypto.Epoch, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(m.folder(e), name))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("keyring: %w", durable.WithRemedy(err, m.dir))
}

// add makes empty files in destroyed/EPOCH. When it returns nil they survive a power failure.
func (m marks) add(e crypto.Epoch, names ...string) error {
	if err := durable.MakeDirectory(m.folder(e)); err != nil {
		return fmt.Errorf("mark as destroyed: %w", durable.WithRemedy(err, m.dir))
	}
	for _, name := range names {
		f, err := os.OpenFile(filepath.Join(m.folder(e), name), os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("mark as destroyed: %w", durable.WithRemedy(err, m.dir))
		}
	}
	if err := durable.SyncDir(m.folder(e)); err != nil {
		return fmt.Errorf("mark as destroyed: %w", err)
	}
	return nil
}
