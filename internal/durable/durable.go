// Package durable makes file names survive a power failure, and removes files that crashes left.
// Its invariant: the process that writes a temporary file locks it until it has its final name. So
// an unlocked temporary file was left by a crash, and may be removed at any time.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// CreateLocked creates a file in dir, mode 0600, named by pattern as for [os.CreateTemp], and locks
// it for this process. The caller closes it, which gives the lock back. If another process removes
// the file as abandoned before it is locked, CreateLocked tries again.
func CreateLocked(dir, pattern string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			return nil, err
		}
		if TryLock(f) {
			if _, err := os.Lstat(f.Name()); err == nil {
				return f, nil
			}
		}
		if err := errors.Join(f.Close(), Remove(f.Name())); err != nil {
			return nil, err
		}
	}
}

// RemoveAbandoned removes the files in dir that have this prefix and suffix and that no process has
// locked. On systems without such locks ([Locks] is false) it removes nothing.
func RemoveAbandoned(dir, prefix, suffix string) error {
	if !Locks {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		name := entry.Name()
		if entry.Type().IsRegular() && strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			errs = append(errs, removeAbandoned(filepath.Join(dir, name)))
		}
	}
	return errors.Join(errs...)
}

func removeAbandoned(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if TryLock(f) {
		err = Remove(path)
	}
	return errors.Join(err, f.Close())
}

// Remedy says what an operator can do about an error in using the files in dir, as the end of a
// sentence. It returns "" if the error does not show a remedy.
func Remedy(err error, dir string) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space on the file system of " + dir
	case errors.Is(err, syscall.EROFS):
		return "mount the file system of " + dir + " for writing; the kernel's log may say why it is not"
	case errors.Is(err, fs.ErrPermission):
		if owner := otherOwner(dir); owner != "" {
			return "run this as root, or as the user " + owner + ", who owns " + dir
		}
		return "give it to the user that runs Detach: chown -R " + userName() + " " + dir
	}
	return ""
}

// WithRemedy returns err with its Remedy, if there is one.
func WithRemedy(err error, dir string) error {
	if remedy := Remedy(err, dir); remedy != "" {
		return fmt.Errorf("%w: %s", err, remedy)
	}
	return err
}

// otherOwner returns the name of the user that owns a directory, or "" if that is root or the user
// of this process. Only a directory of root's was made by mistake and should have another owner.
func otherOwner(dir string) string {
	info, err := os.Stat(dir)
	if err != nil && dir != filepath.Dir(dir) { // we may not look into that above
		return otherOwner(filepath.Dir(dir))
	}
	if err != nil || OwnedByUs(info) {
		return ""
	}
	uid := ownerOf(info)
	if uid == "" || uid == "0" {
		return ""
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// userName returns the name of the user of this process, or "detach" if it has none.
func userName() string {
	// Not user.Current: it remembers root after the process has become another user.
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil && u.Username != "" {
		return u.Username
	}
	return "detach"
}

// Remove removes a file. A file that does not exist is not an error.
func Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
