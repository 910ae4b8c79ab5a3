package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// numbersIn returns the sizes of an epoch's entries: numberedEntry's numbers.
func numbersIn(t *testing.T, l *Ledger, e crypto.Epoch) (numbers []int64) {
	t.Helper()
	must.Succeed(t, l.Each(e, func(e Entry) error {
		numbers = append(numbers, e.Size)
		return nil
	}))
	return numbers
}

func wantNumbers(t *testing.T, what string, got []int64, want ...int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// A line comes back as it was written, whatever fsck did not know.
func TestEntryComesBackAsItWasWritten(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	whole := numberedEntry(november, 1)
	linked := Entry{CID: numberedCID(2), Core: numberedCID(3), KID: crypto.KID{Epoch: november, Link: true}, Epoch: november, Kind: KindList}
	extended := numberedEntry(december, 4)
	extended.KID.Epoch = november
	want := []Entry{whole, linked, extended}
	must.Succeed(t, l.Append(want...))
	var got []Entry
	must.Succeed(t, testLedger(t, l.dir).All(func(e Entry) error {
		got = append(got, e)
		return nil
	}))
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// An object that was taken back is in the ledger no more, until it is added again.
func TestForgottenObjectIsGone(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	reader := testLedger(t, l.dir)
	add(t, l, november, 1, 2, 3)
	wantLines(t, reader, true, 1, 2, 3)
	must.Succeed(t, l.Forget(numberedEntry(november, 2), numberedEntry(november, 3)))
	add(t, l, november, 3)
	wantLines(t, reader, false, 7) // a miss reads the new lines
	for _, l := range []*Ledger{reader, testLedger(t, l.dir)} {
		wantLines(t, l, false, 2)
		wantLines(t, l, true, 1, 3)
		wantNumbers(t, "listed", numbersIn(t, l, november), 1, 3)
	}
}

// An extended object counts in the epoch whose end is its own, and in no other.
func TestExtendedObjectIsListedOnce(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	add(t, l, february, 1, 2, 3)
	const later crypto.Epoch = "2027-06-30.cccccccc"
	for _, e := range []crypto.Epoch{december, later} { // december never ends
		for n := 1; n < 3; n++ {
			if e == later || n == 1 {
				again := numberedEntry(e, n)
				again.KID.Epoch = february
				must.Succeed(t, l.Append(again))
			}
		}
	}
	wantNumbers(t, "the old epoch", numbersIn(t, l, february), 3)
	wantNumbers(t, "the later epoch", numbersIn(t, l, later), 2)
	wantNumbers(t, "the epoch without an end", numbersIn(t, l, december), 1)
	for n, want := range map[int]crypto.Epoch{1: december, 2: later, 3: february} {
		if rec, ok, err := l.Lookup(numberedCID(n)); !ok || err != nil || rec.Epoch != want {
			t.Errorf("object %d: got %v, %v, %v; want epoch %s", n, rec, ok, err, want)
		}
	}
	found, err := l.Find(numberedCID(2))
	if err != nil || len(found) != 1 || found[0].KID.Epoch != february || found[0].Epoch != later {
		t.Errorf("found %+v, %v", found, err)
	}
	must.Succeed(t, l.Forget(found...))
	for _, e := range []crypto.Epoch{february, later} {
		if slices.Contains(numbersIn(t, l, e), 2) {
			t.Errorf("%s lists the object that was taken back", e)
		}
	}
}

func TestDoubledLineCountsOnce(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	add(t, l, november, 1, 2, 1)
	add(t, l, november, 2)
	wantNumbers(t, "listed", numbersIn(t, l, november), 1, 2)
	wantNumbers(t, "an epoch without a file", numbersIn(t, l, december))
}

// The objects of a mail have an id in common; lines of fsck have none.
func TestObjectsOfAMailAreFound(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	one, other, unknown := numberedEntry(november, 1), numberedEntry(december, 2), numberedEntry(november, 3)
	other.Mail = "fedcba9876543210"
	unknown.Mail = ""
	must.Succeed(t, l.Append(one, other, unknown))
	found, err := l.OfMails(other.Mail, "")
	if err != nil || len(found) != 1 || found[0].CID != other.CID {
		t.Errorf("found %+v, %v; want object 2", found, err)
	}
}

func TestErrorEndsTheWalkOverTheLedger(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	add(t, l, november, 1, 2)
	add(t, l, december, 3)
	n, stop := 0, errors.New("stop")
	err := l.All(func(Entry) error {
		n++
		return stop
	})
	if n != 1 || !errors.Is(err, stop) {
		t.Errorf("%d entries, %v; want 1 and the error", n, err)
	}
	must.Succeed(t, l.Remove(november))
	must.Succeed(t, l.Remove(november))
	wantNumbers(t, "a removed epoch", numbersIn(t, l, november))
	must.Succeed(t, os.Mkdir(l.path(november), 0o700))
	if err := l.Each(december, func(Entry) error { return nil }); err == nil {
		t.Error("a file that cannot be read is no error")
	}
}

// Objects that the gate verified are known, and are no lines of the ledger. There is a limit.
func TestVerifiedObjectsAreRemembered(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	known := func(c cid.Cid) bool {
		t.Helper()
		_, ok, err := l.Known(c)
		must.Succeed(t, err)
		return ok
	}
	add(t, l, november, 1)
	l.Remember(numberedCID(2), NewRecord(2, ledgerTime, november))
	wantLines(t, l, true, 1)
	wantLines(t, l, false, 2)
	for n, want := range []bool{false, true, true, false} {
		if got := known(numberedCID(n)); got != want {
			t.Errorf("object %d is known: %v, want %v", n, got, want)
		}
	}
	for n := range maxVerified + 1 {
		l.verified[Digest{byte(n), byte(n >> 8), byte(n >> 16), 1}] = Record{}
		if len(l.verified) == maxVerified {
			break
		}
	}
	l.Remember(numberedCID(5), NewRecord(5, ledgerTime, november))
	if !known(numberedCID(5)) || len(l.verified) != maxVerified {
		t.Errorf("%d objects are remembered, want %d", len(l.verified), maxVerified)
	}
}

// A hundred thousand objects are listed without an index in memory.
func BenchmarkLedgerListing(b *testing.B) {
	l := testLedger(b, filepath.Join(b.TempDir(), "ledger"))
	for e := range 10 {
		var entries []Entry
		for n := range 10_000 {
			entries = append(entries, numberedEntry(crypto.Epoch(fmt.Sprintf("2027-02-%02d.bbbbbbbb", e+1)), 10_000*e+n))
		}
		must.Succeed(b, l.Append(entries...))
	}
	for b.Loop() {
		n := 0
		must.Succeed(b, l.All(func(Entry) error {
			n++
			return nil
		}))
		if n != 100_000 {
			b.Fatal(n)
		}
	}
}
