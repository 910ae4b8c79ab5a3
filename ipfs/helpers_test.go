package ipfs_test

import (
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

// budget is shared by all tests of this package, which must leave nothing of it taken.
var budget = memory.New(maxLeaves<<20, "")

const (
	maxLeaves = 48            // as many leaves have memory at the same time
	maxHeld   = maxLeaves / 2 // and so many of them for as long as they are read
)

// inMemory is a store of blocks that can also build nodes by hand.
type inMemory struct{ *storetest.Recorder }

func newMemory() inMemory {
	m := storetest.NewRecorder()
	m.Budget = budget
	return inMemory{m}
}
