package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

// shredder overwrites key files before it deletes them, those that a crash left included.
type shredder struct {
	keys *keys
	step func(name string)
}

// shred overwrites a file with zeros and deletes it. It waits for those who are reading the file. A
// file that does not exist is not an error.
func (s shredder) shred(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(durable.Lock(f), overwrite(f)); err != nil {
		return err
	}
	s.step("unlink")
	if err := durable.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func overwrite(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 64<<10)
	for offset := int64(0); offset < info.Size(); offset += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), info.Size()-offset)], offset); err != nil {
			return err
		}
	}
	return f.Sync()
}

// removeLeftovers overwrites and deletes the key files that a crash left under other names. The
// caller holds changeLock.
func (s shredder) removeLeftovers() error {
	if err := s.removeAll(oldPrefix, nextPrefix); err != nil {
		return err
	}
	unlock, err := s.keys.lock(makeLock)
	if err != nil {
		return err
	}
	defer unlock()
	return s.removeAll(newPrefix)
}

func (s shredder) removeAll(prefixes ...string) error {
	names, err := readNames(s.keys.dir)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		if err := s.removeLeftover(filepath.Join(s.keys.dir, name)); err != nil {
			return fmt.Errorf("keyring: %w", err)
		}
	}
	return nil
}

// removeLeftover overwrites and deletes a file. If that is only another name of a key file, the
// name alone is deleted.
func (s shredder) removeLeftover(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	epochs, err := s.keys.epochs()
	if err != nil {
		return err
	}
	for _, e := range epochs {
		if key, err := os.Stat(s.keys.path(e)); err == nil && os.SameFile(info, key) {
			return durable.Remove(path)
		}
	}
	return s.shred(path)
}
