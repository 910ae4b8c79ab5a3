package ipfs_test

import (
	"testing"

	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memory is a store of blocks that can also build nodes by hand.
type memory struct{ *storetest.Memory }

func newMemory() memory { return memory{storetest.NewMemory()} }
