package keyring

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// extendedScene is a keyring in which coreAt(3) of the root coreAt(98) can be extended.
func extendedScene(t *testing.T) (r *Keyring, old, to crypto.Epoch, b crypto.Share) {
	t.Helper()
	r, old = newTestKeyring(t)
	to, err := r.Writer("2028-02-28")
	must.Succeed(t, err)
	b, err = r.Share(old, coreAt(3))
	must.Succeed(t, err)
	return r, old, to, b
}

func TestExtendedFileOutlivesItsEpoch(t *testing.T) {
	r, old, to, b := extendedScene(t)
	if _, _, _, err := r.Extension(coreAt(98), coreAt(3), old); !errors.Is(err, ErrNoExtension) {
		t.Errorf("before: got %v, want ErrNoExtension", err)
	}
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, to, false, b))
	if before, err := os.ReadFile(r.records.path(to, coreAt(3))); err != nil || bytes.Contains(before, b.Bytes()) {
		t.Errorf("the record shows the share, error %v", err)
	}
	check := func(wantEpoch crypto.Epoch, wantLink bool, want crypto.Share) {
		t.Helper()
		if e, link, got, err := r.Extension(coreAt(98), coreAt(3), old); err != nil || e != wantEpoch || link != wantLink || got != want {
			t.Errorf("got %s, %v, error %v; want %s, %v", e, link, err, wantEpoch, wantLink)
		}
	}
	check(to, false, b)
	must.Succeed(t, r.End(old))
	check(to, false, b)
	// Of several, the latest end counts, and never is the latest.
	year, err := r.Writer("2029-01-01")
	must.Succeed(t, err)
	forever, err := r.Writer("2026-11")
	must.Succeed(t, err)
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, year, true, crypto.ZeroShare()))
	check(year, true, crypto.ZeroShare())
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, forever, false, b))
	check(forever, false, b)
	must.Succeed(t, os.Remove(r.keys.path(forever)))
	check(year, true, crypto.ZeroShare())
	must.Succeed(t, r.End(year))
	check(to, false, b)
	if _, err := os.Lstat(r.records.folder(year)); err == nil {
		t.Error("the records of an ended epoch stay")
	}
	for what, pair := range map[string][2]uint64{"another root": {97, 3}, "another core": {98, 4}} {
		if _, _, _, err := r.Extension(coreAt(pair[0]), coreAt(pair[1]), old); !errors.Is(err, ErrNoExtension) {
			t.Errorf("%s: got %v, want ErrNoExtension", what, err)
		}
	}
}

// Destroying reaches every epoch that the file was extended into, also from a copy of the record.
func TestDestroyedFileIsGoneFromItsExtensions(t *testing.T) {
	faults.Covers(t, 109)
	r, old, to, b := extendedScene(t)
	neighbour, err := r.Share(to, coreAt(4))
	must.Succeed(t, err)
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, to, false, b))
	record, err := os.ReadFile(r.records.path(to, coreAt(3)))
	must.Succeed(t, err)
	must.Succeed(t, r.Destroy(old, coreAt(3)))
	for _, when := range []string{"destroyed", "the record is back", "without the mark of the old epoch", "without any mark"} {
		if _, _, _, err := r.Extension(coreAt(98), coreAt(3), old); !errors.Is(err, ErrNoExtension) {
			t.Errorf("%s: got %v, want ErrNoExtension", when, err)
		}
		if _, err := r.Share(to, coreAt(3)); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: the leaf of the new epoch: got %v, want ErrDestroyed", when, err)
		}
		must.Succeed(t, os.WriteFile(r.records.path(to, coreAt(3)), record, 0o600))
		switch when {
		case "the record is back":
			must.Succeed(t, os.RemoveAll(r.marks.folder(old)))
		case "without the mark of the old epoch":
			must.Succeed(t, os.RemoveAll(r.marks.folder(to)))
		}
	}
	if got, err := r.Share(to, coreAt(4)); err != nil || got != neighbour {
		t.Errorf("a neighbour in the new epoch: another share, error %v", err)
	}
}

// A damaged key file of the later epoch does not keep the file's own epoch from being punctured.
func TestDestroyingPassesOverADamagedKeyFile(t *testing.T) {
	faults.Covers(t, 109)
	r, old, to, b := extendedScene(t)
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, to, false, b))
	must.Succeed(t, os.Truncate(r.keys.path(to), 20))
	if err := r.Destroy(old, coreAt(3)); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
	must.Succeed(t, os.RemoveAll(r.marks.folder(old)))
	if _, err := r.Share(old, coreAt(3)); !errors.Is(err, ErrDestroyed) {
		t.Errorf("the leaf in the key file of the old epoch: got %v, want ErrDestroyed", err)
	}
}

func TestDestroyedFileCannotBeExtended(t *testing.T) {
	r, old, to, b := extendedScene(t)
	must.Succeed(t, r.Destroy(old, coreAt(3)))
	if err := r.Extend(coreAt(98), coreAt(3), old, to, false, b); !errors.Is(err, ErrDestroyed) {
		t.Errorf("got %v, want ErrDestroyed", err)
	}
	if err := r.Extend(coreAt(98), coreAt(4), old, "2029-01-01.aaaa2345", false, b); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("into an unknown epoch: got %v, want ErrNoEpoch", err)
	}
	if err := r.Extend(coreAt(98), coreAt(4), old, to, false, crypto.Share{}); err == nil {
		t.Error("extended without a share")
	}
}

// The record is bound to root, core, both epochs and the mode.
func TestAlteredExtensionDoesNotOpen(t *testing.T) {
	r, old, to, b := extendedScene(t)
	must.Succeed(t, r.Extend(coreAt(98), coreAt(3), old, to, false, b))
	path := r.records.path(to, coreAt(3))
	good, err := os.ReadFile(path)
	must.Succeed(t, err)
	if want := cidSize + 1 + len(old) + 1 + nonceSize + crypto.SecretSize + tagSize; len(good) != want {
		t.Errorf("the record has %d bytes, want %d", len(good), want)
	}
	for i := range good {
		altered := bytes.Clone(good)
		altered[i] ^= 1
		for _, file := range [][]byte{altered, good[:i]} {
			must.Succeed(t, os.WriteFile(path, file, 0o600))
			if _, _, _, err := r.Extension(coreAt(98), coreAt(3), old); err == nil {
				t.Errorf("byte %d altered, or cut there: opens", i)
			}
		}
	}
	must.Succeed(t, os.WriteFile(path, append(good, 0), 0o600))
	if _, _, _, err := r.Extension(coreAt(98), coreAt(3), old); err == nil {
		t.Error("opens with a byte more")
	}
	// Under another core, and in another epoch.
	later, err := r.Writer("2029-01-01")
	must.Succeed(t, err)
	must.Succeed(t, os.MkdirAll(r.records.folder(later), 0o700))
	must.Succeed(t, os.Rename(path, r.records.path(to, coreAt(4))))
	must.Succeed(t, os.WriteFile(r.records.path(later, coreAt(3)), good, 0o600))
	for _, core := range []uint64{3, 4} {
		if _, _, _, err := r.Extension(coreAt(98), coreAt(core), old); err == nil {
			t.Errorf("moved: opens for core %d", core)
		}
	}
	// A record of an object of another epoch, which has other marks.
	must.Succeed(t, os.WriteFile(path, good, 0o600))
	if _, _, _, err := r.Extension(coreAt(98), coreAt(3), later); err == nil || errors.Is(err, ErrNoExtension) {
		t.Errorf("of an object of another epoch: got %v, want the record to be refused", err)
	}
	// A damaged record does not hide one that opens.
	if e, _, got, err := r.Extension(coreAt(98), coreAt(3), old); err != nil || e != to || got != b {
		t.Errorf("beside a damaged record: got %s, %v", e, err)
	}
}
