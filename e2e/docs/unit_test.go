package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// maxExposure is systemd's measure of what a service could do to its machine, from 0 to 100.
// Services without any limits have 96.
const maxExposure = "20"

// readUnit writes the guide's systemd unit to a file, for the detach of these tests.
func readUnit(t *testing.T) (path, text string) {
	t.Helper()
	guide := stage.ReadFile(t, stage.Path("docs", "postfix.md"))
	m := regexp.MustCompile("(?ms)^```ini\n(.*?)^```$").FindStringSubmatch(guide)
	if m == nil {
		t.Fatal("docs/postfix.md has no unit")
	}
	path = filepath.Join(t.TempDir(), "detach.service")
	text = strings.Replace(m[1], "/usr/local/bin/detach", stage.Binary(), 1)
	stage.Must(t, os.WriteFile(path, []byte(text), 0o600))
	return path, text
}

// The guide's unit is valid, and leaves Detach few ways to harm the machine.
func TestUnitConfinesDetach(t *testing.T) {
	servers.Need(t, "systemd-analyze")
	path, _ := readUnit(t)
	for _, args := range [][]string{{"verify", path}, {"security", "--offline=true", "--threshold=" + maxExposure, path}} {
		if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, stage.LastLines(string(out), 5))
		}
	}
}

// Detach works with the unit's SystemCallFilter: the calls that it forbids fail here too.
func TestUnitAllowsWhatDetachCalls(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux's system calls")
	}
	servers.Need(t, "systemd-analyze", "strace")
	_, text := readUnit(t)
	var allowed []string
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(text, -1) {
		for _, set := range strings.Fields(m[2]) {
			calls := systemCalls(t, set)
			if m[1] == "" {
				allowed = append(allowed, calls...)
			} else {
				allowed = slices.DeleteFunc(allowed, func(c string) bool { return slices.Contains(calls, c) })
			}
		}
	}
	if len(allowed) < 100 {
		t.Fatalf("the unit allows %q", allowed)
	}
	forbidden := "!?" + strings.Join(allowed, ",?") // ?: strace may not know a call that systemd knows
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-o", trace, "-e", "signal=none", "-e", "trace="+forbidden, "-e", "inject="+forbidden+":error=EPERM",
		stage.Binary(), "demo", "--once")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "verified and decrypted") {
		t.Errorf("detach demo: %v: %s\nforbidden calls:\n%s", err, out, stage.LastLines(stage.ReadFile(t, trace), 10))
	}
}

// systemCalls returns the calls of one of systemd's sets, and of the sets in it.
func systemCalls(t *testing.T, set string) (calls []string) {
	t.Helper()
	if !strings.HasPrefix(set, "@") {
		return []string{set}
	}
	out, err := exec.Command("systemd-analyze", "syscall-filter", set).Output()
	stage.Must(t, err)
	for _, m := range regexp.MustCompile(`(?m)^ +([@a-z]\S*)$`).FindAllStringSubmatch(string(out), -1) {
		calls = append(calls, systemCalls(t, m[1])...)
	}
	return calls
}
