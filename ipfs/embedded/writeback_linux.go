package embedded

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback asks the kernel to begin writing dirty pages, and does not wait for it. It ignores
// errors: the next Sync returns them.
func startWriteback(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
