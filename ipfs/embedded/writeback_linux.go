package embedded

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback asks the kernel to begin writing what is dirty, and does not wait for it. It is
// advice: what fails here fails in the Sync that follows.
func startWriteback(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
