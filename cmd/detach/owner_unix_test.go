//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const ownerEnv = "DETACH_TEST_OWNER"

// TestOwnerProcess is the process that TestRootWritesAsTheOwner starts.
func TestOwnerProcess(t *testing.T) {
	dir := os.Getenv(ownerEnv)
	if dir == "" {
		t.Skip("run by TestRootWritesAsTheOwner")
	}
	must.Succeed(t, becomeOwner(dir))
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "made"), nil, 0o600))
}

// Commands that root runs leave files that the service can read.
func TestRootWritesAsTheOwner(t *testing.T) {
	const nobody = 65534
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	exe, err := os.Executable()
	must.Succeed(t, err)
	for _, uid := range []int{nobody, 0} {
		// Not t.TempDir: the owner must be able to pass through the directories above.
		dir, err := os.MkdirTemp("", "owner")
		must.Succeed(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		must.Succeed(t, os.Chown(dir, uid, uid))
		cmd := exec.Command(exe, "-test.run=^TestOwnerProcess$")
		// testscript's own files, made by root, stay: the process fails to remove them in the end.
		cmd.Env = append(os.Environ(), ownerEnv+"="+dir, "TMPDIR="+dir)
		out, _ := cmd.CombinedOutput()
		info, err := os.Stat(filepath.Join(dir, "made"))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		made := info.Sys().(*syscall.Stat_t)
		if int(made.Uid) != uid || int(made.Gid) != uid {
			t.Errorf("the file belongs to %d:%d, want %d", made.Uid, made.Gid, uid)
		}
	}
	must.Succeed(t, becomeOwner(filepath.Join(t.TempDir(), "missing")))
}
