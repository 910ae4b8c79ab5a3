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
	o.part, err = os.OpenFile(o.path+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s.part is left of another download, or one is running: remove it", o.path)
	}
	o.Writer = o.part
	return o, err
}

func (o *output) exists() error {
	return fmt.Errorf("%s exists already: name another file with -o", o.path)
}

// finish gives the file its name if err is nil, and removes it otherwise.
func (o *output) finish(err error) error {
	if o.part == nil {
		return err
	}
	err = errors.Join(err, o.part.Close())
	if o.path == "" {
		return err
	}
	part := o.part.Name()
	if err == nil && o.replace {
		return os.Rename(part, o.path)
	}
	if err == nil {
		// A rename would replace what another program has put there meanwhile; a link does not.
		if err = os.Link(part, o.path); errors.Is(err, fs.ErrExist) {
			err = o.exists()
		} else if err != nil {
			return os.Rename(part, o.path) // a file system without hard links
		}
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
