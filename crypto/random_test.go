package crypto

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
)

// The kernel's source does not fail in this way: since Go 1.24 crypto/rand ends the process if it
// does, and the client keeps its mail, as after a 451. The error is for a rand.Reader that was
// replaced.
func TestNoSecretWithoutRandomBytes(t *testing.T) {
	faults.Covers(t, 75)
	boom := errors.New("no entropy")
	for name, r := range map[string]func() io.Reader{
		"error":      func() io.Reader { return iotest.ErrReader(boom) },
		"short":      func() io.Reader { return bytes.NewReader(make([]byte, SecretSize-1)) },
		"then error": func() io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, 5)), iotest.ErrReader(boom)) },
	} {
		if s, err := randomSecret(r()); err == nil || !s.absent() {
			t.Errorf("%s: got a secret, error %v", name, err)
		}
		withRandom(r(), func() {
			if k, err := NewKey(); err == nil || k != (Key{}) {
				t.Errorf("%s: got a key, error %v", name, err)
			}
		})
		withRandom(r(), func() {
			if s, err := NewServiceSecret(); err == nil || s != (ServiceSecret{}) {
				t.Errorf("%s: got a service secret, error %v", name, err)
			}
		})
	}
	if _, err := randomSecret(iotest.ErrReader(boom)); !errors.Is(err, boom) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

// withRandom calls f with r in place of the kernel's source.
func withRandom(r io.Reader, f func()) {
	kernel := rand.Reader
	rand.Reader = r
	defer func() { rand.Reader = kernel }()
	f()
}

func TestNothingIsDerivedFromAnAbsentKey(t *testing.T) {
	faults.Covers(t, 75)
	absent, share := Key{}, Share{testSecret(1)}
	if got := absent.Split(share); got != (Fragment{}) || got.Encode() != "" {
		t.Error("an absent key has a fragment")
	}
	if _, err := absent.SealMeta(testMeta, dayKID); err == nil {
		t.Error("an absent key seals")
	}
	jwe, err := Key{ZeroShare().secret}.SealMeta(testMeta, dayKID)
	must.Succeed(t, err)
	if _, err := absent.OpenMeta(jwe); !errors.Is(err, ErrWrongKey) {
		t.Errorf("an absent key opens what 32 zero bytes have sealed: %v", err)
	}
}

// Every file's counter starts at zero, so two blocks have the same key and counter only if two
// files have the same key. No file is long enough to use a counter again: offsets end at 2^63
// bytes, which are 2^59 of the 2^128 blocks.
func TestMillionKeysDiffer(t *testing.T) {
	faults.Covers(t, 75)
	keys := 1_000_000
	if race.Enabled {
		keys = 50_000 // each takes twenty times as long
	}
	heads := make([][12]byte, keys)
	for i := range heads {
		k, err := NewKey()
		must.Succeed(t, err)
		// Twelve of the bytes are enough: two are equal by chance once in 10^17 runs.
		heads[i] = [12]byte([]byte(k.h.Value()[:12]))
	}
	slices.SortFunc(heads, func(a, b [12]byte) int { return bytes.Compare(a[:], b[:]) })
	if n := len(slices.Compact(heads)); n != keys {
		t.Errorf("%d of %d keys are different", n, keys)
	}
}
