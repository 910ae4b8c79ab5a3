package embedded

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback asks the kernel to begin writing dirty pages, and does not wait for it. Best
// effort: an error comes again in the Sync that follows.
func startWriteback(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
