//go:build unix

package main

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

const aPart = "name.nxquvyku.part"

// Until it is whole a file is its reader's alone. Then it is as any other file that a program writes.
func TestPartMode(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	for _, left := range []bool{false, true} {
		t.Chdir(t.TempDir())
		if left { // by a program that thought otherwise
			write(t, aPart, "half", 0o644)
		}
		o, err := create("", "name", aCID, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := modeOf(t, aPart); got != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", aPart, got)
		}
		if err := o.finish(nil, 0); err != nil {
			t.Fatal(err)
		}
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
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// What stands in the way under the name of the part is not written to: it may be somebody's trap.
func TestPartInTheWay(t *testing.T) {
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
		if err := tt.put(); err != nil {
			t.Fatal(err)
		}
		o, err := create("", "name", aCID, io.Discard)
		if err == nil {
			_ = o.finish(errors.New("not wanted"), 0)
		}
		if err == nil || !strings.Contains(err.Error(), aPart) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: err = %v, want one that names it and says %q", name, err, tt.want)
		}
		if got, _ := os.ReadFile("victim"); string(got) != "precious" {
			t.Errorf("%s: what it leads to has become %q", name, got)
		}
		if _, err := os.Lstat("nowhere"); err == nil {
			t.Errorf("%s: made what it leads to", name)
		}
	}
}

// Whoever made the file can open it, whatever its mode is now.
func TestPartOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	t.Chdir(t.TempDir())
	write(t, aPart, "", 0o666)
	if err := os.Chown(aPart, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := create("", "name", aCID, io.Discard); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("err = %v", err)
	}
}

// A process was killed after it gave the file its name and before it took the other one away. Then the part is the finished file, and
// a download that replaces it must not write there before it is whole itself.
func TestPartThatHasTheNameAlready(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "name", "whole", 0o644)
	if err := os.Link("name", aPart); err != nil {
		t.Fatal(err)
	}
	o, err := create("name", "", aCID, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(o, "new"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile("name"); string(got) != "whole" {
		t.Errorf("half way the file is %q", got)
	}
	if err := o.finish(nil, 0); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile("name"); string(got) != "new" {
		t.Errorf("the file is %q", got)
	}
	if left, _ := filepath.Glob("*.part"); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// A part may be finished by its process between another's opening and locking it.
func TestPartFinishedMeanwhile(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, aPart, "old", 0o600)
	late, err := os.OpenFile(aPart, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if err := os.Remove(aPart); err != nil {
		t.Fatal(err)
	}
	if ours, err := claim(late); ours || err != nil {
		t.Errorf("gone: claimed %v, %v", ours, err)
	}
	write(t, aPart, "another's", 0o600)
	if ours, err := claim(late); ours || err != nil {
		t.Errorf("another is there: claimed %v, %v", ours, err)
	}
}

// Of downloads of one link at once, one brings the file, and the others say that it does, or has done so.
func TestGetTwiceAtOnce(t *testing.T) {
	content := make([]byte, 1<<20+1)
	_, _ = rand.Read(content)
	l := stored(t, content, func(_ string, answer []byte) []byte { return answer })
	for range 10 {
		t.Chdir(t.TempDir())
		done := manyAtOnce(t, 6, l)
		for stderr := range done {
			if !strings.Contains(stderr, "is being downloaded by another process") && !strings.Contains(stderr, "exists already") {
				t.Errorf("one failed with %q", stderr)
			}
		}
		if got, _ := os.ReadFile("a.bin"); string(got) != string(content) {
			t.Errorf("got another file, of %d bytes", len(got))
		}
		if left, _ := filepath.Glob("*.part"); len(left) > 0 || len(done) > 5 {
			t.Errorf("left %q, after %d failures", left, len(done))
		}
	}
}

// manyAtOnce downloads, and returns what those said that failed.
func manyAtOnce(t *testing.T, n int, l link.Link) chan string {
	failed := make(chan string, n)
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			if stderr, code := runGet(t, l.URL()); code != 0 {
				failed <- stderr
			}
		})
	}
	running.Wait()
	close(failed)
	return failed
}
