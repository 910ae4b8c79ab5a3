// Package e2e holds what Detach promises against the servers it will meet: the real binary between two real
// Postfixes, with its attachments in the embedded store and in a real kubo, and real browsers that click the links.
//
// The set-up of nearly every test is the same. A Postfix listens as the front, as a provider's port 25 or 587 does, and
// gives what it gets to detach (smtpd_proxy_filter). Detach gives the rewritten mail to the listener behind, whose Postfix
// queues it and delivers to a mailbox of ours, which keeps every byte. A third listener does the same with nothing in between:
// what it delivers is the measure for "byte for byte". The original attachments are decoded by Python's email package.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the detach that every test runs.
var binary string

// artefacts keeps the screenshots of the last run.
const artefacts = "artefacts"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "detach-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "detach")
	build := []string{"build", "-o", binary}
	if _, err := os.Stat(pdfjs); err == nil {
		build = append(build, "-tags", "pdfjs")
	}
	if out, err := exec.Command("go", append(build, "../cmd/detach")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ../cmd/detach: %v\n%s", err, out)
		return 1
	}
	if err := os.MkdirAll(artefacts, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
