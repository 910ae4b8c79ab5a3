package durable

import "time"

// Stamp tells the versions of a file apart without reading it. Equal stamps mean that nothing has
// replaced or changed the file between them, if the first was [Stamp.Settled] when it was taken.
type Stamp struct {
	device, inode uint64
	size          int64 // in bytes
	modified      int64 // nanoseconds since 1970; programs that copy a file set it
	changed       int64 // likewise; only the kernel sets it, on systems that have it
}

// settling is longer than the steps of any file system's clock.
const settling = 2 * time.Second

// Settled reports whether a change of the file after now gives it another stamp. A file that was
// changed just before may be changed again within the same step of its file system's clock.
func (s Stamp) Settled(now time.Time) bool {
	return now.Sub(time.Unix(0, s.changed)) > settling
}
