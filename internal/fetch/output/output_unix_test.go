//go:build unix

package output

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const aPart = "name.nxquvyku.part"

// Only its owner can read a part file. The finished file has the mode of any other new file.
func TestPartFileIsPrivate(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	for _, left := range []bool{false, true} {
		t.Chdir(t.TempDir())
		if left { // by another program, with another mode
			write(t, aPart, "half", 0o644)
		}
		o, err := Create("", "name", aCID, io.Discard)
		must.Succeed(t, err)
		if got := modeOf(t, aPart); got != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", aPart, got)
		}
		must.Succeed(t, o.Finish(nil, 0))
		if got := modeOf(t, "name"); got != 0o640 {
			t.Errorf("the file has mode %04o, want 0640", got)
		}
	}
	if got := syscall.Umask(0o027); got != 0o027 {
		t.Errorf("the umask is %04o afterwards", got)
	}
}

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	must.Succeed(t, err)
	return info.Mode().Perm()
}

// Create refuses anything but a regular file under the part file's name: it may be a trap.
func TestForeignPartFileIsNotWritten(t *testing.T) {
	for name, tt := range map[string]struct {
		put  func() error
		want string
	}{
		"a symbolic link":              {func() error { return os.Symlink("victim", aPart) }, "is a symbolic link: remove it"},
		"a symbolic link into nowhere": {func() error { return os.Symlink("nowhere", aPart) }, "is a symbolic link: remove it"},
		"a pipe":                       {func() error { return syscall.Mkfifo(aPart, 0o600) }, "is not a file: remove it"},
		"a directory":                  {func() error { return os.Mkdir(aPart, 0o700) }, "is a directory"},
	} {
		t.Chdir(t.TempDir())
		write(t, "victim", "precious", 0o600)
		must.Succeed(t, tt.put())
		o, err := Create("", "name", aCID, io.Discard)
		if err == nil {
			_ = o.Finish(errors.New("not wanted"), 0)
		}
		if err == nil || !strings.Contains(err.Error(), aPart) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: err = %v, want its name and %q", name, err, tt.want)
		}
		if got := read("victim"); got != "precious" {
			t.Errorf("%s: the file that it leads to has become %q", name, got)
		}
		if _, err := os.Lstat("nowhere"); err == nil {
			t.Errorf("%s: created the file that it leads to", name)
		}
	}
}

// The owner of a file can open it, whatever its mode is now.
func TestPartFileOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	t.Chdir(t.TempDir())
	write(t, aPart, "", 0o666)
	must.Succeed(t, os.Chown(aPart, 65534, 65534))
	if _, err := Create("", "name", aCID, io.Discard); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("err = %v", err)
	}
}

// A process may be killed after it gave the file its name and before it removed the part file's
// name. Then the part is the finished file: the next download must not write to it.
func TestFinishedFileIsNotTakenForAPart(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "name", "whole", 0o644)
	must.Succeed(t, os.Link("name", aPart))
	o, err := Create("name", "", aCID, io.Discard)
	must.Succeed(t, err)
	_, err = io.WriteString(o, "new")
	must.Succeed(t, err)
	if got := read("name"); got != "whole" {
		t.Errorf("half way the file is %q", got)
	}
	must.Succeed(t, o.Finish(nil, 0))
	if got := read("name"); got != "new" {
		t.Errorf("the file is %q", got)
	}
	if left, _ := filepath.Glob("*.part"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// Another process may finish a part file after we have opened it and before we lock it.
func TestPartFinishedMeanwhileIsNotClaimed(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, aPart, "old", 0o600)
	late, err := os.OpenFile(aPart, os.O_RDWR, 0)
	must.Succeed(t, err)
	defer late.Close()
	must.Succeed(t, os.Remove(aPart))
	if ours, err := claim(late); ours || err != nil {
		t.Errorf("gone: claimed %v, %v", ours, err)
	}
	write(t, aPart, "another's", 0o600)
	if ours, err := claim(late); ours || err != nil {
		t.Errorf("another is there: claimed %v, %v", ours, err)
	}
}

func TestPartFileBelongsToOneProcess(t *testing.T) {
	t.Chdir(t.TempDir())
	running, err := Create("", "name", aCID, io.Discard)
	must.Succeed(t, err)
	defer running.Finish(errors.New("not wanted"), 0)
	want := aPart + " is being downloaded by another process"
	if err := download("", nil); err == nil || err.Error() != want {
		t.Errorf("err = %v, want %s", err, want)
	}
}
