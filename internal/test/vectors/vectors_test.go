package vectors

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var update = flag.Bool("update", false, "write docs/vectors anew")

// others are made by their packages.
var others = []string{"files.json", "skeleton.json"}

// TestVectorsAreCurrent makes all vectors and compares them with the files; -update writes them.
func TestVectorsAreCurrent(t *testing.T) {
	files := All()
	for name, v := range files {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		must.Succeed(t, enc.Encode(v))
		path := filepath.Join(Dir, name)
		if *update {
			must.Succeed(t, os.WriteFile(path, want.Bytes(), 0o644))
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what -update would write (%v)", name, err)
		}
	}
	entries, err := os.ReadDir(Dir)
	must.Succeed(t, err)
	for _, e := range entries {
		if files[e.Name()] == nil && !slices.Contains(others, e.Name()) {
			t.Errorf("nothing makes %s", e.Name())
			if *update {
				must.Succeed(t, os.Remove(filepath.Join(Dir, e.Name())))
			}
		}
	}
	if want := len(files) + len(others); !t.Failed() && len(entries) != want {
		t.Errorf("%s has %d files, want %d", Dir, len(entries), want)
	}
}
