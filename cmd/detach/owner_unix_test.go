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

const (
	ownerEnv = "DETACH_TEST_OWNER"
	nobody   = 65534
)

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

// ownedByNobody makes a configuration with a data directory that belongs to the user nobody. It
// returns the directory and a function that runs a command as root, or as another user.
func ownedByNobody(t *testing.T) (dir string, detach func(uid uint32, mail []byte, args ...string) (out []byte, code int)) {
	t.Helper()
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
	text := fmt.Sprintf("data_dir = %q\n[store]\nmin_free = \"0\"\n[[proxy]]\nlisten = \"127.0.0.1:0\"\nreinject = \"127.0.0.1:1\"\nmin_size = \"1KB\"\n"+
		"[gateway]\nlisten = \"\"\nurl = \"http://127.0.0.1:1\"\n", data)
	must.Succeed(t, os.WriteFile(config, []byte(text), 0o644))
	return dir, func(uid uint32, mail []byte, args ...string) ([]byte, int) {
		cmd := exec.Command(program, append(args, "--config", config)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Stdin = bytes.NewReader(mail)
		out, err := cmd.CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Error(err)
		}
		return out, cmd.ProcessState.ExitCode()
	}
}

var attachedMail = []byte("MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\n" +
	strings.Repeat("attached\r\n", 1000))

// Root runs the commands as docs/operations.md says, and the service can read all that they write.
func TestCommandsOfRootAreThoseOfTheOwner(t *testing.T) {
	dir, detach := ownedByNobody(t)
	data := filepath.Join(dir, "data")
	rewritten, _ := detach(0, attachedMail, "filter")
	if got, code := detach(0, rewritten, "restore"); !bytes.Equal(got, attachedMail) {
		t.Errorf("restored with exit code %d: %s", code, got)
	}
	if report, code := detach(0, nil, "check"); code != 1 || !bytes.Contains(report, []byte("ok    data_dir ")) || !bytes.Contains(report, []byte("ok    store ")) {
		t.Errorf("check: exit code %d: %s", code, report)
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
	if out, code := detach(nobody-1, nil, "list"); code != 2 || !bytes.Contains(out, []byte("run this as root, or as the user nobody, who owns "+data)) {
		t.Errorf("another user: exit code %d: %s", code, out)
	}

	// The service must be able to read the configuration, too.
	must.Succeed(t, os.Chmod(filepath.Join(dir, "detach.toml"), 0o600))
	if out, code := detach(0, nil, "check"); code != 2 || !bytes.Contains(out, []byte("as the user that owns data_dir: ")) {
		t.Errorf("check: exit code %d: %s", code, out)
	}
}

// Files that root has copied into data_dir belong to root. Each command says which user needs them.
func TestCopiesOfRootAreFound(t *testing.T) {
	dir, detach := ownedByNobody(t)
	detach(0, attachedMail, "filter")
	give := func(pattern string, uid int) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "data", pattern))
		must.Succeed(t, err)
		if len(files) == 0 {
			t.Fatalf("there is no %s", pattern)
		}
		for _, file := range files {
			must.Succeed(t, os.Chown(file, uid, uid))
		}
	}
	for _, tt := range []struct{ pattern, command, want string }{
		{"ledger/*.jsonl", "list", "permission denied: give it to the user that runs Detach: chown -R nobody "},
		{"ledger/*.jsonl", "check", "FAIL  ledger              cannot read the ledger; links open all the same, "},
		{"objects/*.car", "fsck", "permission denied; give it to the user that runs Detach: chown -R nobody "},
		{"keys/*.key", "list", "permission denied: give it to the user that runs Detach: chown -R nobody "},
	} {
		give(tt.pattern, 0)
		if out, code := detach(0, nil, tt.command); code == 0 || !bytes.Contains(out, []byte(tt.want)) {
			t.Errorf("%s: exit code %d, want %q in %s", tt.command, code, tt.want, out)
		}
		give(tt.pattern, nobody)
	}
	if out, code := detach(0, nil, "fsck", "--all"); code != 0 {
		t.Errorf("fsck: exit code %d: %s", code, out)
	}
}
