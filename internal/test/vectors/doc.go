// Package vectors makes the test vectors in docs/vectors, and reads them for the tests of other
// packages. Only tests import it.
//
// It follows docs/format.md with the standard library alone, and imports nothing of Detach. A
// mistake in the code under test therefore cannot hide in the vectors. Keys, nonces and times are
// fixed, which only vectors may have. `go test ./internal/test/vectors -update` writes the files
// anew. Two more files belong to other packages: skeleton.json and files.json.
package vectors

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Dir is the folder of the vectors.
var Dir = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../../docs/vectors")
}()

// Read reads a file of docs/vectors. It refuses members that the type does not have.
func Read(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Dir, name))
	must.Succeed(t, err)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	must.Succeed(t, dec.Decode(into))
}

// Hex is bytes that stand in JSON as hexadecimal digits.
type Hex []byte

// MarshalText writes the digits.
func (h Hex) MarshalText() ([]byte, error) { return appendHex(h), nil }

// UnmarshalText reads the digits.
func (h *Hex) UnmarshalText(digits []byte) error { return parseHex(digits, h) }

// All returns what each file has.
func All() map[string]any {
	files := make(map[string]any)
	objects := objects()
	for name, v := range objects {
		files["object-"+name+".json"] = v
	}
	split := objects["01-split"]
	files["links.json"] = links(split.Link)
	files["kid.json"] = kids()
	files["keystream.json"] = keystream()
	files["data.json"] = dataSizes()
	files["tree.json"] = trees()
	files["keyfile.json"] = keyFiles()
	files["ticket.json"] = tickets(split)
	files["extension.json"] = extensions()
	files["denied.json"] = denyLists()
	files["dag-jose.json"] = dagJOSE(split)
	return files
}
