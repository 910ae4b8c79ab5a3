package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// deniedDir is a data directory with this deny list.
func deniedDir(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	if len(lines) > 0 {
		must.Succeed(t, os.WriteFile(filepath.Join(dir, deniedName), []byte(strings.Join(lines, "")), 0o600))
	}
	return dir
}

func mergeDenied(t *testing.T, into, from string) int {
	t.Helper()
	text, err := ExportDenied(from)
	must.Succeed(t, err)
	n, err := MergeDenied(into, text)
	must.Succeed(t, err)
	return n
}

// Two machines that exchange their lists deny the same, in whatever order they do it.
func TestMergedDenyListsDenyTheSame(t *testing.T) {
	later := ledgerTime.Add(time.Hour)
	a := deniedDir(t, rulingLine(1, false, ledgerTime), rulingLine(2, false, ledgerTime), rulingLine(3, true, later), numberedCID(4).String()+"\n")
	b := deniedDir(t, rulingLine(1, true, later), rulingLine(2, true, ledgerTime), rulingLine(3, false, ledgerTime), numberedCID(5).String()) // no line end
	if n := mergeDenied(t, a, b); n != 2 {
		t.Errorf("a took %d lines, want the undo of 1, and 5", n)
	}
	if n := mergeDenied(t, b, a); n != 3 {
		t.Errorf("b took %d lines, want the denial of 2, the undo of 3, and 4", n)
	}
	for what, dir := range map[string]string{"a": a, "b": b} {
		d := deniedIn(dir)
		wantDenied(t, what, d, true, 2, 4, 5)
		wantDenied(t, what, d, false, 1, 3, 6)
	}
	if n := mergeDenied(t, a, b) + mergeDenied(t, b, a); n != 0 {
		t.Errorf("the next exchange brought %d lines", n)
	}
}

// A pasted link and a comment do not leave the machine: they may hold a key.
func TestExportedDenyListHasNoKeys(t *testing.T) {
	const key = "zBJm2xjDKyRGXStYBHNe5xePgpBDsqEuFCLXd1ZVBWUHi"
	dir := deniedDir(t, "https://files.example.org/"+numberedCID(1).String()+"#"+key+"\n", numberedCID(2).String()+" # key "+key+"\n")
	text, err := ExportDenied(dir)
	must.Succeed(t, err)
	if want := numberedCID(1).String() + "\n" + numberedCID(2).String() + "\n"; len(text) != len(want) || strings.Contains(string(text), key) {
		t.Errorf("exported %q", text)
	}
	if text, err := ExportDenied(deniedDir(t)); err != nil || len(text) != 0 {
		t.Errorf("without a list: %q, %v", text, err)
	}
}

func TestDenyListThatCannotBeReadIsNotMerged(t *testing.T) {
	dir := t.TempDir()
	must.Succeed(t, os.Mkdir(filepath.Join(dir, deniedName), 0o700))
	if _, err := ExportDenied(dir); err == nil {
		t.Error("exported")
	}
	if _, err := MergeDenied(dir, []byte(numberedCID(1).String()+"\n")); err == nil {
		t.Error("merged")
	}
}
