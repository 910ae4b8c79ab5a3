//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// Root runs the commands as docs/operations.md says, and the service can read all that they write.
func TestCommandsOfRootAreThoseOfTheOwner(t *testing.T) {
	const nobody = 65534
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	// Not t.TempDir: the owner must be able to pass through the directories above.
	dir, err := os.MkdirTemp("", "owner")
	must.Succeed(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must.Succeed(t, os.Chmod(dir, 0o755))
	data, program, config := filepath.Join(dir, "data"), filepath.Join(dir, "detach"), filepath.Join(dir, "detach.toml")
	must.Succeed(t, os.Mkdir(data, 0o700))
	must.Succeed(t, os.Chown(data, nobody, nobody))
	exe, err := os.Executable()
	must.Succeed(t, err)
	binary, err := os.ReadFile(exe)
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(program, binary, 0o755)) // TestMain runs the command of this name
	text := fmt.Sprintf("data_dir = %q\n[store]\nmin_free = \"0\"\n[[proxy]]\nlisten = \"127.0.0.1:0\"\nreinject = \"127.0.0.1:1\"\nmin_size = \"1KB\"\n[gateway]\nlisten = \"\"\nurl = \"http://127.0.0.1:1\"\n", data)
	must.Succeed(t, os.WriteFile(config, []byte(text), 0o644))
	detach := func(mail []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(program, append(args, "--config", config)...)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(mail), t.Output()
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && (exit.ExitCode() != 1 || args[0] != "check") {
			t.Errorf("%s: %v", args[0], err)
		}
		return out
	}
	mail := []byte("MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\n" +
		strings.Repeat("attached\r\n", 1000))
	if got := detach(detach(mail, "filter"), "restore"); !bytes.Equal(got, mail) {
		t.Errorf("restored %d bytes, want %d", len(got), len(mail))
	}
	if report := detach(nil, "check"); !bytes.Contains(report, []byte("ok    data_dir ")) || !bytes.Contains(report, []byte("ok    store ")) {
		t.Errorf("check says: %s", report)
	}
	must.Succeed(t, filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		must.Succeed(t, err)
		info, err := entry.Info()
		must.Succeed(t, err)
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != nobody {
			t.Errorf("%s belongs to the user %d", path, uid)
		}
		return nil
	}))

	// Another user is not told to take the directory.
	stranger := exec.Command(program, "list", "--config", config)
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody - 1, Gid: nobody - 1}}
	out, err := stranger.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("run this as root, or as the user nobody, who owns "+data)) {
		t.Errorf("%v: %s", err, out)
	}

	// The service must be able to read the configuration, too.
	must.Succeed(t, os.Chmod(config, 0o600))
	out, err = exec.Command(program, "check", "--config", config).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("as the user that owns data_dir: ")) {
		t.Errorf("%v: %s", err, out)
	}
}
