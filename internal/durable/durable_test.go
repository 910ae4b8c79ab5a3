package durable

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func TestOnlyAbandonedFilesAreRemoved(t *testing.T) {
	if !Locks {
		t.Skip("no locks on this system")
	}
	dir := t.TempDir()
	alive, err := CreateLocked(dir, "new-*.tmp")
	must.Succeed(t, err)
	defer alive.Close()
	dead, err := CreateLocked(dir, "new-*.tmp")
	must.Succeed(t, err)
	dead.Close()
	other := filepath.Join(dir, "other.tmp")
	must.Succeed(t, os.WriteFile(other, nil, 0o600))

	must.Succeed(t, RemoveAbandoned(dir, "new-", ".tmp"))
	for path, want := range map[string]bool{alive.Name(): true, dead.Name(): false, other: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s exists: %v, want %v", path, err == nil, want)
		}
	}
}

func TestMissingDirectoryIsAnError(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	if err := RemoveAbandoned(gone, "", ""); err == nil && Locks {
		t.Error("RemoveAbandoned: no error")
	}
	if err := SyncDir(gone); err == nil && Locks {
		t.Error("SyncDir: no error")
	}
}

func TestRemedyFitsTheError(t *testing.T) {
	for err, want := range map[error]string{
		syscall.ENOSPC: "free some space on the file system of /data", syscall.EDQUOT: "free some space",
		syscall.EROFS: "for writing", syscall.EACCES: "chown -R ", syscall.EPERM: " /data", syscall.EIO: "",
	} {
		got := Remedy(fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: "/data/x", Err: err}), "/data")
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}

func TestDirectoryIsMadeWithThoseAboveIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		must.Succeed(t, MakeDirectory(dir))
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Errorf("got %v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	must.Succeed(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := MakeDirectory(path); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestRemovedFileCanBeRemovedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must.Succeed(t, os.WriteFile(path, nil, 0o600))
	must.Succeed(t, Remove(path))
	must.Succeed(t, Remove(path))
}

func TestCopyHasAnotherIdentity(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("files are not told from their copies on this system")
	}
	path := filepath.Join(t.TempDir(), "file")
	identity := func() string {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		must.Succeed(t, err)
		defer f.Close()
		_, err = f.WriteString("a line\n")
		must.Succeed(t, err)
		id, err := Identity(f)
		must.Succeed(t, err)
		return id
	}
	first := identity()
	if again := identity(); again != first {
		t.Errorf("one file: %q and %q", first, again)
	}
	must.Succeed(t, os.Rename(path, path+".old"))
	if other := identity(); other == first {
		t.Errorf("two files: %q", first)
	}
}
