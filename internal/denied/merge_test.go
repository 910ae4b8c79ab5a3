package denied

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// listOf is a deny list with these lines.
func listOf(t *testing.T, lines ...string) *List {
	t.Helper()
	d := testDenyList(t)
	if len(lines) > 0 {
		must.Succeed(t, os.WriteFile(d.path, []byte(strings.Join(lines, "")), 0o600))
	}
	return d
}

func merge(t *testing.T, into, from *List) int {
	t.Helper()
	text, err := from.Export()
	must.Succeed(t, err)
	n, err := into.Merge(text)
	must.Succeed(t, err)
	return n
}

// Two machines that exchange their lists deny the same, in whatever order they do it.
func TestMergedDenyListsDenyTheSame(t *testing.T) {
	later := someTime.Add(time.Hour)
	a := listOf(t, rulingLine(1, false, someTime), rulingLine(2, false, someTime), rulingLine(3, true, later), numberedCID(4).String()+"\n")
	b := listOf(t, rulingLine(1, true, later), rulingLine(2, true, someTime), rulingLine(3, false, someTime), numberedCID(5).String()) // no line end
	if n := merge(t, a, b); n != 2 {
		t.Errorf("a took %d lines, want the undo of 1, and 5", n)
	}
	if n := merge(t, b, a); n != 3 {
		t.Errorf("b took %d lines, want the denial of 2, the undo of 3, and 4", n)
	}
	for what, d := range map[string]*List{"a": a, "b": b} {
		wantDenied(t, what, d, true, 2, 4, 5)
		wantDenied(t, what, d, false, 1, 3, 6)
	}
	if n := merge(t, a, b) + merge(t, b, a); n != 0 {
		t.Errorf("the next exchange brought %d lines", n)
	}
}

// A pasted link and a comment do not leave the machine: they may hold a key.
func TestExportedDenyListHasNoKeys(t *testing.T) {
	const key = "zBJm2xjDKyRGXStYBHNe5xePgpBDsqEuFCLXd1ZVBWUHi"
	d := listOf(t, "https://files.example.org/"+numberedCID(1).String()+"#"+key+"\n", numberedCID(2).String()+" # key "+key+"\n")
	text, err := d.Export()
	must.Succeed(t, err)
	if want := numberedCID(1).String() + "\n" + numberedCID(2).String() + "\n"; len(text) != len(want) || strings.Contains(string(text), key) {
		t.Errorf("exported %q", text)
	}
	if text, err := listOf(t).Export(); err != nil || len(text) != 0 {
		t.Errorf("without a list: %q, %v", text, err)
	}
}

func TestDenyListThatCannotBeReadIsNotMerged(t *testing.T) {
	d := testDenyList(t)
	must.Succeed(t, os.Mkdir(d.path, 0o700))
	if _, err := d.Export(); err == nil {
		t.Error("exported")
	}
	if _, err := d.Merge([]byte(numberedCID(1).String() + "\n")); err == nil {
		t.Error("merged")
	}
}
