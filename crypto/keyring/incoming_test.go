package keyring

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestOnlyTheEpochsOwnKeyFileVerifies(t *testing.T) {
	r, err := Open(t.TempDir())
	must.Succeed(t, err)
	e, err := r.Writer("2026-11")
	must.Succeed(t, err)
	other, err := r.Writer("2026-12")
	must.Succeed(t, err)
	file, err := r.Export(e)
	must.Succeed(t, err)
	must.Succeed(t, Verify(e, file))
	if err := Verify(other, file); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another name: %v", err)
	}
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		if err := Verify(e, changed); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

// A record that was made for another object, epoch or keyring does not come in.
func TestForeignExtensionIsNotMerged(t *testing.T) {
	from, err := Open(t.TempDir())
	must.Succeed(t, err)
	old, err := from.Writer(crypto.PeriodOf(time.Unix(0, 0), 1))
	must.Succeed(t, err)
	to, err := from.Writer(crypto.PeriodOf(time.Unix(0, 0), 48*time.Hour))
	must.Succeed(t, err)
	root, core, other := sum(t, "root"), sum(t, "core"), sum(t, "other")
	b, err := from.Share(old, core)
	must.Succeed(t, err)
	must.Succeed(t, from.Extend(root, core, old, to, false, b))
	record, err := os.ReadFile(from.extensionPath(to, core))
	must.Succeed(t, err)

	r, err := Open(t.TempDir())
	must.Succeed(t, err)
	if _, err := r.MergeExtension(to, core, record); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("without the epoch's key file: %v", err)
	}
	for _, e := range []crypto.Epoch{old, to} {
		file, err := from.Export(e)
		must.Succeed(t, err)
		must.Succeed(t, r.Merge(e, file))
	}
	for i := range record {
		changed := bytes.Clone(record)
		changed[i] ^= 1
		if _, err := r.MergeExtension(to, core, changed); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
	}
	if _, err := r.MergeExtension(to, other, record); err == nil {
		t.Error("for another object: accepted")
	}
	if _, err := r.MergeExtension(old, core, record); err == nil {
		t.Error("for another epoch: accepted")
	}
	for _, want := range []bool{true, false} {
		if fresh, err := r.MergeExtension(to, core, record); err != nil || fresh != want {
			t.Errorf("got %v, %v, want %v", fresh, err, want)
		}
	}
	if _, _, got, err := r.Extension(root, core); err != nil || got.Encode() != b.Encode() {
		t.Errorf("the extension gives another share, %v", err)
	}
}

func sum(t *testing.T, text string) cid.Cid {
	t.Helper()
	c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum([]byte(text))
	must.Succeed(t, err)
	return c
}
