package servers

import "testing"

// A gateway and a proxy that were given the same port do not start. With ports drawn at random that came once in some hundred runs.
func TestFreeAddrIsNeverGivenTwice(t *testing.T) {
	given := make(map[string]bool)
	for range 2000 {
		addr := FreeAddr(t)
		if given[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		given[addr] = true
	}
}
