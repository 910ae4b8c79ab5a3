package export

import (
	"path/filepath"
	"strings"
	"testing"
)

// A name that is accepted stays below the data directory, is the one name of its entry, and has a
// size that is bounded.
func FuzzNames(f *testing.F) {
	const core = "bafybeif5u4c67htb5ixhwqshrktpl5kcbg6kmtrfpk57wiukvlkyk57lgm"
	for _, seed := range []string{
		"denied", "keys/2026-11.k7d2qawm.key", "keys/2027-02-28.k7d2qawm.key", "keys/destroyed/2026-11.k7d2qawm/all",
		"keys/destroyed/2026-11.k7d2qawm/" + core, "keys/extended/2027-02-28.k7d2qawm/" + core,
		"../denied", "keys/../../x.key", "keys/destroyed/../../" + core,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		e, err := parseName(name)
		if err != nil {
			return
		}
		if e.name() != name || !filepath.IsLocal(name) || strings.Contains(name, "..") || e.maxSize() > maxDenied {
			t.Errorf("%q: accepted as %+v", name, e)
		}
		if name != deniedName && !strings.HasPrefix(name, keysFolder+"/") {
			t.Errorf("%q: outside of the keyring", name)
		}
	})
}
