package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// MakeDirectory makes a directory, mode 0700, with the directories above it that are missing. When
// it returns nil, their names survive a power failure. A directory that exists already may be one
// that another process has just made, so its name is synced too, unless this user may not read the
// directory above it.
func MakeDirectory(path string) error {
	top := nearest(path)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if top == path {
		if err := SyncDir(filepath.Dir(path)); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	for path != top {
		path = filepath.Dir(path)
		if err := SyncDir(path); err != nil {
			return err
		}
	}
	return nil
}

// nearest returns the path, or the nearest one above it that exists.
func nearest(path string) string {
	for {
		if _, err := os.Lstat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}
