//go:build !unix

package durable

import "os"

// StampOf returns the stamp of a file, or an error of type *fs.PathError.
func StampOf(path string) (Stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}, err
	}
	return stampOf(info), nil
}

// StampOfFile returns the stamp of an open file, or an error of type *fs.PathError.
func StampOfFile(f *os.File) (Stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return Stamp{}, err
	}
	return stampOf(info), nil
}

func stampOf(info os.FileInfo) Stamp {
	modified := info.ModTime().UnixNano()
	return Stamp{size: info.Size(), modified: modified, changed: modified}
}
