package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// output is where a download goes: first to FILE.part, and to FILE once it is whole.
type output struct {
	io.Writer
	part    *os.File
	path    string // "" for what is written straight
	replace bool
}

// create opens what -o says: "" is name in this directory.
func create(option, name string, stdout io.Writer) (*output, error) {
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
	o.part, err = openPart(o.path + ".part")
	o.Writer = o.part
	return o, err
}

// openPart opens what is to become a file, for one process at a time. What an earlier one has left is kept.
func openPart(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o666)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file: remove it", path)
	}
	if err == nil && lock(f) != nil {
		err = fmt.Errorf("%s is being downloaded by another process", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// resume reads what an earlier attempt has left into sum, and goes on behind it; more than most cannot be of this file. What is
// written straight begins at its beginning.
func (o *output) resume(sum io.Writer, most int64) error {
	if o.path == "" {
		return nil
	}
	info, err := o.part.Stat()
	if err != nil {
		return err
	}
	if info.Size() > most {
		return o.restart()
	}
	_, err = io.Copy(sum, o.part)
	return err
}

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
	switch {
	case err != nil && useful > 0 && !errors.Is(err, errOtherSum):
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

// NAME_MAX is 255 bytes nearly everywhere; ".part" and some room are taken off.
const maxName = 200

// cleanName makes a file name of what a stranger wrote: no path, nothing hidden, nothing that draws itself as something else.
func cleanName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError || unicode.Is(unicode.C, r): // controls, and the marks that turn the writing direction
			return -1
		case strings.ContainsRune(`<>:"|?*`, r): // not in a Windows name
			return '_'
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = strings.TrimLeft(name, ". -") // neither hidden nor an option
	if len(name) > maxName {
		ext := filepath.Ext(name)
		if len(ext) > 20 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:maxName-len(ext)], "") + ext
	}
	name = strings.TrimRight(name, ". ")
	if name == "" || !filepath.IsLocal(name) {
		return "attachment"
	}
	return name
}
