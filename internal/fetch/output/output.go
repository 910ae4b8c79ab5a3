// Package output writes a download to its file.
//
// The invariant: a file gets its name only when it is whole. Until then the bytes are in
// NAME.12345678.part, readable by their owner alone and locked by one process, where the next
// attempt finds them.
package output

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// File is where a download goes: to its part file, or straight to a stream. [File.Finish] closes
// it.
type File struct {
	io.Writer
	Path    string // what Finish names the file; "" for a stream: standard output, a device, a pipe
	part    *os.File
	replace bool
}

// Create opens the output for the object c. The option is a file, which is replaced; a directory,
// in which the file is called name; "" for the current directory; or "-" for stdout.
func Create(option, name string, c cid.Cid, stdout io.Writer) (*File, error) {
	if option == "-" {
		return &File{Writer: stdout}, nil
	}
	o := &File{Path: option, replace: true}
	if option == "" {
		option = "."
	}
	info, err := os.Stat(option)
	switch {
	case err == nil && info.IsDir():
		o.Path, o.replace = filepath.Join(option, name), false
	case err == nil && !info.Mode().IsRegular(): // /dev/null and pipes are written, not replaced
		f, err := os.OpenFile(option, os.O_WRONLY, 0)
		return &File{Writer: f, part: f}, err
	}
	if _, err := os.Lstat(o.Path); err == nil && !o.replace {
		return nil, o.exists()
	}
	o.part, err = openPart(o.Path + PartSuffix(c))
	o.Writer = o.part
	return o, err
}

// PartSuffix contains the end of the CID. Senders choose the names of files, so two links may have
// the same name: neither download continues the other's part, nor removes it.
func PartSuffix(c cid.Cid) string {
	s := c.String()
	return "." + s[len(s)-8:] + ".part"
}

// openPart opens a part file for this process alone. It keeps what an earlier process left in it.
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

// claim locks a part file for this process. It returns false without an error if the name was
// removed or belongs to another file by now: then the caller tries again.
func claim(f *os.File) (bool, error) {
	path := f.Name()
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is not a file: remove it", path)
	case !durable.OwnedByUs(info): // its owner could read what we write there
		return false, fmt.Errorf("%s belongs to another user: download to another directory", path)
	case !durable.TryLock(f):
		return false, fmt.Errorf("%s is being downloaded by another process", path)
	}
	if err := refuseLink(path); err != nil {
		return false, err
	}
	// The process that had the lock may have finished between our opening and our locking.
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, there) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if hasOtherName(info) { // the file is finished: its process was killed while naming it
		return false, os.Remove(path)
	}
	_ = f.Chmod(0o600) // best effort: the file system of a memory stick may have no modes
	return true, nil
}

func refuseLink(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return fmt.Errorf("%s is a symbolic link: remove it", path)
	}
	return nil
}

// ErrLonger means that the part file is longer than the file that is to be downloaded.
var ErrLonger = errors.New("the partial file is longer than this file")

// Resume copies what an earlier attempt left to sum, and writing goes on after it. If that is more
// than size, it is not of this file: Resume copies nothing and returns ErrLonger. A stream has
// nothing to resume.
func (o *File) Resume(sum io.Writer, size int64) error {
	if o.Path == "" {
		return nil
	}
	info, err := o.part.Stat()
	if err != nil {
		return err
	}
	if info.Size() > size {
		return ErrLonger
	}
	_, err = io.Copy(sum, o.part)
	return err
}

// Restart deletes what was written to the part file.
func (o *File) Restart() error {
	if o.Path == "" {
		return nil
	}
	_, err := o.part.Seek(0, io.SeekStart)
	return errors.Join(err, o.part.Truncate(0))
}

func (o *File) exists() error {
	return fmt.Errorf("%s exists already: name another file with -o", o.Path)
}

// Finish closes the output. If err is nil, the file gets its name. Otherwise Finish returns err;
// useful is the number of bytes that the next attempt can use; unless it is 0, the part file stays.
func (o *File) Finish(err error, useful int64) error {
	if o.part == nil {
		return err
	}
	if o.Path == "" {
		return errors.Join(err, o.part.Close())
	}
	defer o.part.Close() // last, since closing unlocks it
	part := o.part.Name()
	switch {
	case err == nil:
		return o.name(part)
	case useful > 0:
		return fmt.Errorf("%w\n%s of it are in %s: the same command goes on from there", err, texts.English().Size(useful), part)
	}
	return errors.Join(err, os.Remove(part))
}

// name gives the part file its name, and the mode of any other file that a program creates.
func (o *File) name(part string) error {
	_ = o.part.Chmod(0o666 &^ umask()) // best effort, as in claim
	if o.replace {
		return os.Rename(part, o.Path)
	}
	// A rename would replace a file that another program has created meanwhile; a link does not.
	err := os.Link(part, o.Path)
	if errors.Is(err, fs.ErrExist) {
		err = o.exists()
	} else if err != nil {
		return os.Rename(part, o.Path) // a file system without hard links
	}
	return errors.Join(err, os.Remove(part))
}
