package freespace

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// of asks the kernel about the file system that holds dir.
func of(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	unit := int64(s.Frsize)
	if unit == 0 { // before Linux 2.6
		unit = int64(s.Bsize)
	}
	return int64(s.Bavail) * unit, int64(s.Blocks) * unit, nil
}

// InMemory reports whether the file system that holds dir is memory, as tmpfs is. It reports false
// if the kernel does not say.
func InMemory(dir string) bool {
	var s unix.Statfs_t
	err := unix.Statfs(dir, &s)
	return err == nil && (s.Type == unix.TMPFS_MAGIC || s.Type == unix.RAMFS_MAGIC)
}
