//go:build !linux

package freespace

import "errors"

func of(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }

// InMemory reports whether the file system that holds dir is memory. On this system it is unknown:
// InMemory returns false.
func InMemory(string) bool { return false }
