package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
)

// writeLedger writes a ledger of so many objects, of 100 epochs.
func writeLedger(t *testing.T, dir string, objects int) {
	t.Helper()
	must.Succeed(t, os.MkdirAll(dir, 0o700))
	object := func(n int) string {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
		hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
		must.Succeed(t, err)
		return cid.NewCidV1(cid.DagProtobuf, hash).String()
	}
	const epochs = 100
	first := time.Now().UTC()
	for e := range epochs {
		f, err := os.Create(filepath.Join(dir, first.AddDate(0, 0, e+1).Format(time.DateOnly)+".k7d2qawm.jsonl"))
		must.Succeed(t, err)
		w := bufio.NewWriter(f)
		for n := e; n < objects; n += epochs {
			fmt.Fprintf(w, `{"cid":%q,"core":%q,"size":%d,"created":%q,"mail":"0123456789abcdef","kind":"file"}`+"\n",
				object(n), object(-n-1), 1000*n, first.Add(-time.Hour).Format(time.RFC3339))
		}
		must.Succeed(t, w.Flush())
		must.Succeed(t, f.Close())
	}
}

// A hundred thousand objects are listed, and counted, in less than two seconds of processor time.
func TestHundredThousandObjectsAreListedInTime(t *testing.T) {
	if race.Enabled || testing.Short() {
		t.Skip("measures time")
	}
	const objects, limit = 100_000, 2 * time.Second
	dir := t.TempDir()
	writeLedger(t, filepath.Join(dir, "ledger"), objects)
	config := filepath.Join(dir, "detach.toml")
	must.Succeed(t, os.WriteFile(config, fmt.Appendf(nil, "data_dir = %q\n[store]\nmin_free = \"0\"\n[gateway]\nurl = \"https://files.example.org\"\n", dir), 0o600))
	for _, command := range [][]string{{"list"}, {"list", "--json"}, {"stat"}} {
		best := time.Duration(1 << 62)
		for try := 0; try < 3 && best > limit; try++ {
			var out bytes.Buffer
			began := measure.CPU()
			if code := run(t.Context(), append(command, "--config", config), nil, &out, io.Discard); code != 0 {
				t.Fatalf("%v: exit code %d", command, code)
			}
			best = min(best, measure.CPU()-began)
			if command[0] == "list" && bytes.Count(out.Bytes(), []byte("bafybei")) != objects {
				t.Errorf("%v: %d objects, want %d", command, bytes.Count(out.Bytes(), []byte("bafybei")), objects)
			}
		}
		t.Logf("%v: %v", command, best)
		if best > limit {
			t.Errorf("%v took %v, want at most %v", command, best, limit)
		}
	}
}
