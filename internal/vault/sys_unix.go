//go:build unix

package vault

import (
	"os"
	"syscall"
)

// locks: whether a lock can tell a writer that lives from one that was killed.
const locks = true

// tryLock takes the lock that a file's writer holds. It goes with the process, however that ends.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
