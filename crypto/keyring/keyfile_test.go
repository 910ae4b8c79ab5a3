package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// replaceKey writes other bytes into the epoch's key file, in place, as cp does.
func replaceKey(t *testing.T, r *Keyring, e crypto.Epoch, file []byte) {
	t.Helper()
	must.Succeed(t, os.WriteFile(r.keys.path(e), file, 0o600))
}

// Every byte counts: the error names the file and what to do, and the file is left as it is.
func TestDamagedKeyFileIsRefusedAndNotReplaced(t *testing.T) {
	faults.Covers(t, 77)
	r, e := newTestKeyring(t)
	must.Succeed(t, r.Destroy(e, coreAt(1)))
	good, err := r.Export(e)
	must.Succeed(t, err)
	damaged := map[string][]byte{"empty": {}, "appended": append(bytes.Clone(good), 0), "twice": bytes.Repeat(good, 2)}
	for i := 0; i < len(good); i += 1 + i/64*7 {
		altered := bytes.Clone(good)
		altered[i] ^= 1 << (i % 8)
		damaged[fmt.Sprintf("byte %d altered", i)] = altered
		damaged[fmt.Sprintf("cut at %d", i)] = good[:i]
	}
	for how, file := range damaged {
		replaceKey(t, r, e, file)
		opened, err := Open(r.dir) // the other epochs must open
		must.Succeed(t, err)
		_, err = Read(r.dir)
		must.Succeed(t, err)
		_, shareErr := r.Share(e, coreAt(2))
		for what, err := range map[string]error{
			"Share": shareErr, "Check after Open": opened.Check(e), "Check": r.Check(e), "Destroy": r.Destroy(e, coreAt(2)),
		} {
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), r.keys.path(e)) || !strings.Contains(err.Error(), "backup") {
				t.Errorf("%s: %s: got %v, want ErrDamaged, the file and a remedy", how, what, err)
			} else if strings.Contains(err.Error(), hex.EncodeToString(good[20:24])) {
				t.Errorf("%s: %s: the error quotes the key", how, what)
			}
		}
		if err := r.Merge(e, file); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: merged: %v", how, err)
		}
		if got, err := os.ReadFile(r.keys.path(e)); err != nil || !bytes.Equal(got, file) {
			t.Errorf("%s: the file was replaced, error %v", how, err)
		}
		must.Succeed(t, os.RemoveAll(filepath.Join(r.dir, destroyedDir, string(e), coreAt(2).String())))
	}
	replaceKey(t, r, e, good)
	if _, err := r.Share(e, coreAt(2)); err != nil {
		t.Errorf("put back: %v", err)
	}
}

// The right key file takes the place of a damaged one, and what was destroyed meanwhile stays so.
func TestMergeMendsADamagedKeyFile(t *testing.T) {
	r, e := newTestKeyring(t)
	good, err := r.Export(e)
	must.Succeed(t, err)
	want, err := r.Share(e, coreAt(2))
	must.Succeed(t, err)
	must.Succeed(t, r.Destroy(e, coreAt(1)))
	replaceKey(t, r, e, good[:len(good)-1])
	if err := r.Destroy(e, coreAt(3)); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
	must.Succeed(t, r.Merge(e, good))
	if got, err := r.Share(e, coreAt(2)); err != nil || got != want {
		t.Errorf("another share, error %v", err)
	}
	got, err := r.Export(e)
	must.Succeed(t, err)
	if !bytes.Equal(got, punctured(t, good, 1, 3)) {
		t.Error("the mended key file is not punctured as the marks say")
	}
	wantFiles(t, r.dir, 1)
}

// A damaged key file must not stop the mail: new files get a key file of their own.
func TestWriterPassesOverADamagedKeyFile(t *testing.T) {
	r, e := newTestKeyring(t)
	replaceKey(t, r, e, []byte("damaged"))
	other, err := r.Writer(testPeriod)
	if err != nil || other == e {
		t.Fatalf("got %s, %v, want another epoch than %s", other, err, e)
	}
	if again, err := r.Writer(testPeriod); err != nil || again != other {
		t.Errorf("then got %s, %v, want %s", again, err, other)
	}
}

// A checksum is no proof of an author, so the rest is checked too.
func TestKeyFileIsParsedStrictly(t *testing.T) {
	whole := keyFileOf(t, ascending(0), ascending(32))
	sealed := func(b []byte) []byte {
		sum := sha256.Sum256(b)
		return append(b, sum[:]...)
	}
	head := func(count uint32, paths ...uint64) []byte {
		b := binary.BigEndian.AppendUint32(bytes.Clone(whole[:headerSize-4]), count)
		for _, p := range paths {
			b = binary.BigEndian.AppendUint64(b, p)
		}
		return b
	}
	nodes := func(n int) []byte { return make([]byte, n*crypto.SecretSize) }
	for how, file := range map[string][]byte{
		"paths in the wrong order": sealed(append(head(2, 5, 4), nodes(65)...)),
		"a path twice":             sealed(append(head(2, 4, 4), nodes(64)...)),
		"a node too few":           sealed(append(head(1, 4), nodes(63)...)),
		"a node too many":          sealed(append(head(1, 4), nodes(65)...)),
		"no node":                  sealed(head(0)),
		"more paths than bytes":    sealed(append(head(1<<32-1), nodes(1)...)),
		"another version":          sealed(bytes.Replace(whole[:len(whole)-sha256.Size], []byte("v1"), []byte("v2"), 1)),
	} {
		if _, err := parse(bytes.NewReader(file), int64(len(file))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", how, err)
		}
	}
	file := sealed(append(head(1, 4), nodes(64)...))
	if _, err := parse(bytes.NewReader(file), int64(len(file))); err != nil {
		t.Errorf("well formed: %v", err)
	}
	if _, err := parse(io.MultiReader(bytes.NewReader(whole[:50]), failing{}), int64(len(whole))); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrDamaged) {
		t.Errorf("a failing disk: got %v, want its error", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A renamed file would make links of one epoch end with another.
func TestKeyFileBelongsToItsName(t *testing.T) {
	r, e := newTestKeyring(t)
	other, err := r.Writer("2028-01")
	must.Succeed(t, err)
	must.Succeed(t, os.Rename(r.keys.path(other), r.keys.path(e)))
	if _, err := r.Share(e, coreAt(1)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "name") {
		t.Errorf("another epoch's file: got %v, want ErrDamaged", err)
	}
	// Only the id is checked: a file that was given another end keeps its secret.
	longer := crypto.Epoch("2030-01-01" + string(other)[len("2028-01"):])
	must.Succeed(t, os.Rename(r.keys.path(e), r.keys.path(longer)))
	if err := r.Check(longer); err != nil {
		t.Errorf("another end: %v", err)
	}
	must.Succeed(t, os.Rename(r.keys.path(longer), filepath.Join(r.dir, "mine.key")))
	if _, err := Open(r.dir); err == nil || !strings.Contains(err.Error(), "mine.key") {
		t.Errorf("name of no epoch: got %v, want it named", err)
	}
}

func TestUnsafeKeyringsAreRefused(t *testing.T) {
	faults.Covers(t, 82, 97)
	r, e := newTestKeyring(t)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		must.Succeed(t, os.Chmod(r.keys.path(e), mode))
		_, openErr := Open(r.dir)
		_, shareErr := r.Share(e, coreAt(1))
		_, writerErr := r.Writer(testPeriod)
		for what, err := range map[string]error{"Open": openErr, "Share": shareErr, "Writer": writerErr} {
			if err == nil || !strings.Contains(err.Error(), r.keys.path(e)) || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("mode %04o: %s: got %v, want the file and chmod 600", mode, what, err)
			}
		}
	}
	must.Succeed(t, os.Chmod(r.keys.path(e), 0o600))
	for _, mode := range []os.FileMode{0o777, 0o770, 0o720, 0o702} {
		must.Succeed(t, os.Chmod(r.dir, mode))
		_, openErr := Open(r.dir)
		_, readErr := Read(r.dir)
		for what, err := range map[string]error{"Open": openErr, "Read": readErr} {
			if err == nil || !strings.Contains(err.Error(), r.dir) || !strings.Contains(err.Error(), "chmod 700") {
				t.Errorf("directory %04o: %s: got %v, want the directory and chmod 700", mode, what, err)
			}
		}
	}
}

// Names from outside become file names.
func TestOnlyEpochsAndCoresBecomeFileNames(t *testing.T) {
	r, e := newTestKeyring(t)
	must.Succeed(t, os.WriteFile(filepath.Join(filepath.Dir(r.dir), "x.key"), keyFileOf(t, ascending(0), ascending(1)), 0o600))
	for _, bad := range []crypto.Epoch{"../x", "", "link", e + ".link", e + "/", "2026-11"} {
		_, shareErr := r.Share(bad, coreAt(1))
		_, destroyedErr := r.Destroyed(bad, coreAt(1))
		for what, err := range map[string]error{
			"Share": shareErr, "Check": r.Check(bad), "Destroy": r.Destroy(bad, coreAt(1)), "End": r.End(bad), "Destroyed": destroyedErr,
			"Merge": r.Merge(bad, keyFileOf(t, ascending(0), ascending(1))), "Extend": r.Extend(coreAt(1), coreAt(1), bad, e, false, crypto.ZeroShare()),
		} {
			if err == nil || errors.Is(err, ErrNoEpoch) {
				t.Errorf("%s of epoch %q: got %v, want a refusal", what, bad, err)
			}
		}
		if _, err := r.Writer(crypto.Period(bad)); err == nil && bad != "2026-11" {
			t.Errorf("Writer of period %q: got a key file", bad)
		}
	}
	for _, bad := range badCores(t) {
		_, shareErr := r.Share(e, bad)
		for what, err := range map[string]error{"Share": shareErr, "Destroy": r.Destroy(e, bad), "CheckOrigin": r.CheckOrigin(e, bad, crypto.Origin{})} {
			if err == nil || errors.Is(err, ErrNoEpoch) {
				t.Errorf("%s of core %q: got %v, want a refusal", what, bad, err)
			}
		}
	}
	wantFiles(t, r.dir, 2)
}

func FuzzKeyFile(f *testing.F) {
	whole := keyFileOf(f, ascending(0), ascending(32))
	f.Add(whole)
	f.Add(punctured(f, whole, 1, 2, 1<<63))
	f.Fuzz(func(t *testing.T, input []byte) {
		file := bytes.Clone(input)
		// The checksum would keep the fuzzer outside.
		if len(file) > sha256.Size {
			sum := sha256.Sum256(file[:len(file)-sha256.Size])
			copy(file[len(file)-sha256.Size:], sum[:])
		}
		c, err := parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		var out bytes.Buffer
		must.Succeed(t, writePunctured(&out, c, bytes.NewReader(file), nil))
		if !bytes.Equal(out.Bytes(), file) {
			t.Error("a file that parses is not written the same")
		}
		again := punctured(t, file, 7)
		if _, err := parse(bytes.NewReader(again), int64(len(again))); err != nil {
			t.Errorf("punctured once more: %v", err)
		}
	})
}
