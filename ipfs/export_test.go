package ipfs

// LeavesInUse counts the leaves that have memory, of MaxLeaves, and those that are parked.
func LeavesInUse() (inMemory, parked int) {
	parking.mu.Lock()
	defer parking.mu.Unlock()
	return len(leafRoom), parking.used
}

// How many leaves may have memory at once, and how many of them for as long as they are read.
const (
	MaxLeaves = maxLeaves
	MaxKept   = maxKept
)
