package rewrite

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A mail whose attachments are all too small is copied.
func TestCorpusUntouched(t *testing.T) {
	faults.Covers(t, 55)
	corpus.Each(t, func(t *testing.T, mail []byte) {
		got, _ := mustRewrite(t, bytes.NewReader(mail), Policy{MinSize: 1 << 40, Restore: true}, newMemory())
		if !bytes.Equal(got, mail) {
			t.Fatalf("changed: got %d bytes, want %d", len(got), len(mail))
		}
	})
}

// Restoring gives the mail as it would have been delivered, and the sizes of the reads make no
// difference.
func TestCorpusRestored(t *testing.T) {
	detached := 0
	corpus.Each(t, func(t *testing.T, mail []byte) {
		for _, p := range []Policy{{MinSize: 1, Restore: true}, {MinSize: 64 << 10, Restore: true}} {
			got, n := restored(t, mail, p)
			detached += n
			p.Restore = false
			d := newMemory()
			again, _ := mustRewrite(t, iotest.OneByteReader(bytes.NewReader(mail)), p, d)
			if len(d.attachments()) != n || n == 0 && !bytes.Equal(again, got) {
				t.Errorf("read byte by byte: %d attachments, want %d, and the same bytes", len(d.attachments()), n)
			}
		}
	})
	t.Logf("%d attachments detached", detached)
	if detached < 400 && !testing.Short() {
		t.Errorf("only %d attachments detached in all", detached)
	}
}

// restored rewrites and restores a mail. It returns the rewritten mail and how many attachments
// were detached.
func restored(t *testing.T, mail []byte, p Policy) ([]byte, int) {
	t.Helper()
	d := newMemory()
	got, m := mustRewrite(t, bytes.NewReader(mail), p, d)
	checkRestored(t, mail, got, m, d)
	return got, m.Stats().Detached
}

// checkRestored checks that restoring gives the mail as it would have been delivered, and that a
// mail from which nothing was detached is unchanged.
func checkRestored(t *testing.T, mail, rewritten []byte, m *Message, d *memoryStore) {
	t.Helper()
	if m.Stats().Detached == 0 {
		if !bytes.Equal(rewritten, mail) {
			t.Fatalf("nothing detached, but changed: %d bytes, want %d", len(rewritten), len(mail))
		}
		return
	}
	got, want := restore(t, rewritten, d), corpus.Delivered(mail, m.walk.policy.RestoreOmit...)
	if !bytes.Equal(got, want) {
		t.Fatalf("restored %d bytes, want %d; first difference at %d", len(got), len(want), firstDifference(got, want))
	}
}

// restore returns the original of a rewritten mail.
func restore(t *testing.T, rewritten []byte, d *memoryStore) []byte {
	t.Helper()
	links, err := skeleton.Links(bytes.NewReader(rewritten))
	must.Succeed(t, err)
	r, err := d.Open(context.Background(), links[0])
	must.Succeed(t, err)
	var out bytes.Buffer
	s, err := skeleton.Open(r)
	must.Succeed(t, err)
	must.Succeed(t, s.Restore(context.Background(), &out, d.part))
	return out.Bytes()
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// Damaged mails are restored too. Unlike the fuzz targets this test also takes large mails.
func TestMutatedCorpusRestored(t *testing.T) {
	detached, n := 0, uint64(0)
	corpus.Each(t, func(t *testing.T, mail []byte) {
		n++
		rnd := rand.New(rand.NewPCG(1, n))
		for range 3 {
			mutant := mutate(rnd, mail)
			for _, minSize := range []int64{1, 64 << 10} {
				_, n := restored(t, mutant, Policy{MinSize: minSize, Restore: true})
				detached += n
			}
		}
	})
	t.Logf("%d attachments detached", detached)
	if detached < 400 {
		t.Errorf("only %d attachments detached in all", detached)
	}
}

// mutate damages a mail in one place, as transports and programs do.
func mutate(rnd *rand.Rand, mail []byte) []byte {
	if len(mail) == 0 {
		return mail
	}
	from := rnd.IntN(len(mail))
	to := min(len(mail), from+rnd.IntN(200))
	before, piece, after := mail[:from], mail[from:to], mail[to:]
	switch rnd.IntN(5) {
	case 0: // bytes are lost
		return slices.Concat(before, after)
	case 1: // bytes are repeated
		return slices.Concat(before, piece, piece, after)
	case 2: // the end is cut off
		return bytes.Clone(before)
	case 3: // bytes are inserted
		junk := []string{"\r\n", "\n", "\r", "\x00", "=", "--", " ", "\r\n\r\n", "\xff"}
		return slices.Concat(before, []byte(junk[rnd.IntN(len(junk))]), piece, after)
	}
	bad := bytes.Clone(mail)
	bad[from] ^= byte(1 + rnd.IntN(255))
	return bad
}
