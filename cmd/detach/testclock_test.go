package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Only a build with the tag testclock has a clock that a file moves. This test's binary has
// everything else of the command in it, so it shows what a normal build has.
func TestNormalBinaryHasNoTestClock(t *testing.T) {
	for tags, want := range map[string]bool{"": false, "testclock": true} {
		out, err := exec.Command("go", "list", "-tags="+tags, "-f", "{{.GoFiles}}", ".").Output()
		must.Succeed(t, err)
		if got := strings.Contains(string(out), "testclock.go"); got != want {
			t.Errorf("tags %q: testclock.go is in the build: %v, want %v", tags, got, want)
		}
	}
	self, err := os.Executable()
	must.Succeed(t, err)
	binary, err := os.ReadFile(self)
	must.Succeed(t, err)
	variable := strings.Join([]string{"DETACH", "TEST", "CLOCK"}, "_") // so that it is not in this binary
	if bytes.Contains(binary, []byte(variable)) {
		t.Errorf("the binary reads %s", variable)
	}
}
