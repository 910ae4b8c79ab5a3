//go:build !unix

package durable

import "os"

// StampOf returns the stamp of a file, or an error of type *fs.PathError.
func StampOf(path string) (Stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}, err
	}
	modified := info.ModTime().UnixNano()
	return Stamp{size: info.Size(), modified: modified, changed: modified}, nil
}
