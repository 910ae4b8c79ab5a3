package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
)

// output is where a download goes: first to FILE.12345678.part, and to FILE once it is whole.
type output struct {
	io.Writer
	part    *os.File
	path    string // "" for what is written straight
	replace bool
}

// create opens what -o says for the object c: "" is name in this directory.
func create(option, name string, c cid.Cid, stdout io.Writer) (*output, error) {
	if option == "-" {
		return &output{Writer: stdout}, nil
	}
	o := &output{path: option, replace: true}
	if option == "" {
		option = "."
	}
	info, err := os.Stat(option)
	switch {
	case err == nil && info.IsDir():
		o.path, o.replace = filepath.Join(option, name), false
	case err == nil && !info.Mode().IsRegular(): // /dev/null and pipes are written, not replaced
		f, err := os.OpenFile(option, os.O_WRONLY, 0)
		return &output{Writer: f, part: f}, err
	}
	if _, err := os.Lstat(o.path); err == nil && !o.replace {
		return nil, o.exists()
	}
	o.part, err = openPart(o.path + partSuffix(c))
	o.Writer = o.part
	return o, err
}

// partSuffix has the end of the CID in it. Senders choose the names of files, so another link may have the same: it neither goes on
// with what is there of this one, nor throws that away.
func partSuffix(c cid.Cid) string {
	s := c.String()
	return "." + s[len(s)-8:] + ".part"
}

// openPart opens what is to become a file, for one process at a time. What an earlier one has left is kept.
func openPart(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
		if err != nil {
			return nil, cmp.Or(refuseLink(path), err)
		}
		ours, err := claim(f)
		if ours && err == nil {
			return f, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// claim locks a file for this process alone. False without an error: it has lost its name, or was taken it, and another try is due.
func claim(f *os.File) (bool, error) {
	path := f.Name()
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is not a file: remove it", path)
	case !ownedByUs(info): // who could read what is written there
		return false, fmt.Errorf("%s belongs to another user: download to another directory", path)
	case lock(f) != nil:
		return false, fmt.Errorf("%s is being downloaded by another process", path)
	}
	if err := refuseLink(path); err != nil {
		return false, err
	}
	// Who held the lock may have finished between our opening and our locking.
	if there, err := os.Lstat(path); err != nil || !os.SameFile(info, there) {
		return false, ignoreMissing(err)
	}
	if hasOtherName(info) { // killed while it gave the file its name, which must not be written any more
		return false, os.Remove(path)
	}
	_ = f.Chmod(0o600) // it fails where the file system, of a stick maybe, has no modes
	return true, nil
}

func refuseLink(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return fmt.Errorf("%s is a symbolic link: remove it", path)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// resume reads what an earlier attempt has left into sum, and goes on behind it. More than most cannot be of this file: then sum
// stays empty, and the error is errLonger. What is written straight begins at its beginning.
func (o *output) resume(sum io.Writer, most int64) error {
	if o.path == "" {
		return nil
	}
	info, err := o.part.Stat()
	if err != nil {
		return err
	}
	if info.Size() > most {
		return errLonger
	}
	_, err = io.Copy(sum, o.part)
	return err
}

var errLonger = errors.New("what was there is longer than the file")

// restart forgets what was written.
func (o *output) restart() error {
	if o.path == "" {
		return nil
	}
	_, err := o.part.Seek(0, io.SeekStart)
	return errors.Join(err, o.part.Truncate(0))
}

func (o *output) exists() error {
	return fmt.Errorf("%s exists already: name another file with -o", o.path)
}

// finish gives the file its name if err is nil. Otherwise what is there stays for a next attempt, if it is of use to one.
func (o *output) finish(err error, useful int64) error {
	if o.part == nil {
		return err
	}
	if o.path == "" {
		return errors.Join(err, o.part.Close())
	}
	defer o.part.Close() // and not before: it is locked
	part := o.part.Name()
	if err == nil {
		_ = o.part.Chmod(0o666 &^ umask()) // see claim
	}
	switch {
	case err != nil && useful > 0 && !errors.Is(err, errOtherSum) && !errors.Is(err, badStatus(http.StatusGone)):
		return fmt.Errorf("%w\n%s of it are in %s: the same command goes on from there", err, bytesOf(useful), part)
	case err != nil:
		return errors.Join(err, os.Remove(part))
	case o.replace:
		return os.Rename(part, o.path)
	}
	// A rename would replace what another program has put there meanwhile; a link does not.
	if err = os.Link(part, o.path); errors.Is(err, fs.ErrExist) {
		err = o.exists()
	} else if err != nil {
		return os.Rename(part, o.path) // a file system without hard links
	}
	return errors.Join(err, os.Remove(part))
}
