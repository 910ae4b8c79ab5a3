package denied

import (
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var someTime = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

const november crypto.Epoch = "2026-11.k7d2qawm"

func numberedCID(n int) cid.Cid {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.DagProtobuf, hash)
}

func testDenyList(t *testing.T) *List {
	t.Helper()
	return New(filepath.Join(t.TempDir(), "denied"), slog.New(slog.DiscardHandler))
}

func wantDenied(t *testing.T, what string, d *List, want bool, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if got, err := d.Has(numberedCID(n)); got != want || err != nil {
			t.Errorf("%s: object %d is denied: %v, %v; want %v", what, n, got, err, want)
		}
	}
}

func rulingOf(n int, undo bool, at time.Time) map[cid.Cid]Ruling {
	return map[cid.Cid]Ruling{numberedCID(n): {Core: numberedCID(-n), Epoch: november, Undo: undo, At: at}}
}

func rulingLine(n int, undo bool, at time.Time) string {
	return rulingOf(n, undo, at)[numberedCID(n)].line(numberedCID(n))
}

// The order of the lines does not matter, so that lists are merged by putting one after the other.
func TestLatestRulingHoldsInAnyOrder(t *testing.T) {
	faults.Covers(t, 90)
	second := someTime.Add(time.Second)
	for name, c := range map[string]struct {
		lines []string
		want  bool
	}{
		"denied":                           {[]string{rulingLine(1, false, someTime)}, true},
		"undone":                           {[]string{rulingLine(1, false, someTime), rulingLine(1, true, second)}, false},
		"denied again":                     {[]string{rulingLine(1, true, someTime), rulingLine(1, false, second)}, true},
		"a tie":                            {[]string{rulingLine(1, true, someTime), rulingLine(1, false, someTime)}, true},
		"a nanosecond":                     {[]string{rulingLine(1, false, someTime), rulingLine(1, true, someTime.Add(1))}, false},
		"another time zone":                {[]string{rulingLine(1, false, someTime), strings.Replace(rulingLine(1, true, second), "20:00:01Z", "22:00:01+02:00", 1)}, false},
		"a comment":                        {[]string{rulingLine(1, false, someTime), strings.Replace(rulingLine(1, true, second), "\n", "   # by mistake\n", 1)}, false},
		"an operator's line beside":        {[]string{rulingLine(1, true, second), numberedCID(1).String() + "\n"}, true},
		"an undo without a time":           {[]string{strings.Replace(rulingLine(1, true, second), second.Format(time.RFC3339), "today", 1)}, true},
		"an undo that a crash cut":         {[]string{rulingLine(1, true, second)[:140] + "\n"}, true},
		"an undo of an epoch of old":       {[]string{strings.Replace(rulingLine(1, true, second), string(november), "2026-11", 1)}, true},
		"an undo with a word too many":     {[]string{strings.Replace(rulingLine(1, true, second), "\n", " please\n", 1)}, true},
		"an undo of a wrapped link's rest": {[]string{"https://files.example.org/" + numberedCID(1).String()[:20] + "\n", rulingLine(1, true, second)}, false},
	} {
		d := testDenyList(t)
		for range 2 {
			must.Succeed(t, os.WriteFile(d.path, []byte(strings.Join(c.lines, "")), 0o600))
			wantDenied(t, name, d, c.want, 1)
			wantDenied(t, name, d, false, 2)
			if name != "an undo of a wrapped link's rest" {
				c.lines[0], c.lines[len(c.lines)-1] = c.lines[len(c.lines)-1], c.lines[0]
			}
		}
	}
}

// The last ruling holds, although the clock stands still or went back.
func TestRulingBeatsTheOneBefore(t *testing.T) {
	d, other := testDenyList(t), testDenyList(t)
	other.path = d.path
	for i, undo := range []bool{false, true, false, true} {
		must.Succeed(t, d.Append(rulingOf(1, undo, someTime.Add(-time.Duration(i)*time.Hour))))
		wantDenied(t, "written", d, !undo, 1)
		wantDenied(t, "read by another process", other, !undo, 1)
	}
	info, err := os.Stat(d.path)
	must.Succeed(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// A last line without its end is ended before a ruling follows: people's editors leave such lines.
func TestRulingFollowsALineWithoutItsEnd(t *testing.T) {
	d := testDenyList(t)
	must.Succeed(t, os.WriteFile(d.path, []byte(numberedCID(1).String()), 0o600))
	must.Succeed(t, d.Append(rulingOf(2, false, someTime)))
	wantDenied(t, "both lines", d, true, 1, 2)
}

func TestRulingsOfManyWritersDoNotMix(t *testing.T) {
	path := testDenyList(t).path
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			d := New(path, slog.New(slog.DiscardHandler))
			for n := 10 * i; n < 10*i+10; n++ {
				if err := d.Append(rulingOf(n, false, someTime)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	d := testDenyList(t)
	d.path = path
	list, err := d.Content()
	if err != nil || len(list.rulings) != 80 || len(list.written)+len(list.unreadable) != 0 {
		t.Errorf("%d rulings, %v; lines %v %v", len(list.rulings), err, list.written, list.unreadable)
	}
}

// A list that may be on a file system that is not mounted is not made anew.
func TestNoRulingIsWrittenIntoAnUnreadableList(t *testing.T) {
	d := testDenyList(t)
	target := filepath.Join(t.TempDir(), "missing")
	must.Succeed(t, os.Symlink(target, d.path))
	if err := d.Append(rulingOf(1, false, someTime)); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("the list was made")
	}
}

// A list of links for a command is read as the deny list is, and names what was ruled upon, too.
func TestLinksAreReadAsInTheDenyList(t *testing.T) {
	one, two := numberedCID(1).String(), numberedCID(2).String()
	text := "# a list\n" + two + "  # first\nhttps://files.example.org/" + one[:20] + "\n" + one[20:] + "#zKey\n" + two + "\noops\n" + rulingLine(3, true, someTime)
	got, unreadable := ReadLinks(text)
	want := sortedCIDs(map[cid.Cid]bool{numberedCID(1): true, numberedCID(2): true, numberedCID(3): true})
	if !slices.Equal(got, want) || !slices.Equal(unreadable, []int{6}) {
		t.Errorf("got %v and lines %v, want %v and line 6", got, unreadable, want)
	}
}

// A list that has grown says the same as one that is read as a whole.
func TestGrownDenyListIsReadLikeAWholeOne(t *testing.T) {
	c := numberedCID(1).String()
	pieces := []string{
		rulingLine(1, false, someTime), rulingLine(1, true, someTime.Add(1)), rulingLine(2, false, someTime), c + "\n", "\n", "# a comment\n", "oops\n",
		"https://files.example.org/" + c[:20] + "\n", c[20:] + "\n", rulingLine(3, true, someTime) + rulingLine(4, false, someTime),
		rulingLine(2, true, someTime)[:100], "\n", strings.Replace(rulingLine(5, false, someTime), "\n", "\r\n", 1), strings.Replace(rulingLine(6, false, someTime), "\n", "  # why\n", 1),
	}
	random := rand.New(rand.NewPCG(13, 13))
	for range 300 {
		d, text := testDenyList(t), ""
		for range random.IntN(8) {
			text += pieces[random.IntN(len(pieces))]
			must.Succeed(t, os.WriteFile(d.path, []byte(text), 0o600))
			got, err := d.Content()
			must.Succeed(t, err)
			if want := parseDenied(text); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: got %+v, want %+v", text, got, want)
			}
		}
	}
}

// A new ruling does not change the content that a reader already has.
func TestGrowingDenyListChangesNoOlderReading(t *testing.T) {
	d := testDenyList(t)
	must.Succeed(t, d.Append(rulingOf(1, false, someTime)))
	before, err := d.Content()
	must.Succeed(t, err)
	must.Succeed(t, d.Append(rulingOf(2, false, someTime)))
	wantDenied(t, "grown", d, true, 1, 2)
	if len(before.rulings) != 1 {
		t.Errorf("%d rulings, want 1", len(before.rulings))
	}
}

// A ruling that a crash cut short denies, whatever it was to say, and the operator is told. The command
// that is given again takes its place, and nothing else in the file changes.
func TestRulingThatWasCutShortIsMended(t *testing.T) {
	before := "# the list\n" + rulingLine(1, false, someTime) + rulingLine(2, false, someTime) + numberedCID(3).String() + "\n"
	undo := rulingLine(1, true, someTime.Add(time.Second))
	const cidEnd, coreEnd = 59, 119
	for n := cidEnd + 1; n < len(undo)-1; n++ {
		for _, end := range []string{"", "\n"} {
			if n <= cidEnd+3 || n == coreEnd || n == coreEnd+1 || end != "" && n%8 > 0 {
				continue // like an operator's line; or much the same as before
			}
			d := testDenyList(t)
			write(t, d, before+undo[:n]+end)
			wantDenied(t, undo[:n], d, true, 1, 2, 3)
			wantProblems(t, d, "cut short by a crash in line 5")
			must.Succeed(t, d.Mend(numberedCID(2)))
			wantProblems(t, d, "cut short by a crash in line 5")
			must.Succeed(t, d.Append(rulingOf(1, true, someTime.Add(2*time.Second))))
			wantDenied(t, "the ruling alone", d, true, 1)
			must.Succeed(t, d.Mend(numberedCID(1)))
			wantDenied(t, "mended", d, false, 1)
			wantDenied(t, "mended", d, true, 2, 3)
			wantProblems(t, d)
			text, err := os.ReadFile(d.path)
			must.Succeed(t, err)
			if want := before + "#" + undo[1:n] + "\n" + rulingLine(1, true, someTime.Add(2*time.Second)); string(text) != want {
				t.Errorf("got %q, want %q", text, want)
			}
		}
	}
}

// What an operator wrote is not taken for a ruling that was cut short.
func TestOperatorsLineIsNotMended(t *testing.T) {
	a, b := numberedCID(1).String(), numberedCID(2).String()
	for _, line := range []string{
		a, a + " ", a + " " + b, a + " " + b + " ", a + " bad", a + " # urgent", a + " by telephone", a + " " + b + " " + b,
		a + " " + b + " 2026-11 deny", "https://files.example.org/" + a, "# " + rulingLine(1, false, someTime)[:130],
		a + " " + b + " " + string(november) + " maybe", a + " " + b + " " + string(november) + " deny today",
	} {
		d := testDenyList(t)
		write(t, d, line+"\n")
		must.Succeed(t, d.Mend(numberedCID(1), numberedCID(2)))
		if text, err := os.ReadFile(d.path); err != nil || string(text) != line+"\n" {
			t.Errorf("%q became %q, %v", line, text, err)
		}
	}
}
