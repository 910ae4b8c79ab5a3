//go:build unix

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whoever reads a store leaves it as it is, and needs no right to write there.
func TestGetChangesNothingInTheStore(t *testing.T) {
	content := make([]byte, 1<<20+1)
	_, _ = rand.Read(content)
	l := stored(t, content, func(_ string, answer []byte) []byte { return answer })
	dir := dataDirs[l]
	// What crashes have left, old enough to be removed by whoever owns the folders.
	for _, left := range []string{"objects/put-1.tmp", "keys/.new-1"} {
		write(t, filepath.Join(dir, left), "half", 0o600)
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(dir, left), old, old); err != nil {
			t.Fatal(err)
		}
	}
	get := func(what, dir string) {
		t.Helper()
		before := listing(t, dir)
		for _, args := range [][]string{{"--store", dir}, {"--store", filepath.Join(dir, "objects"), "--keys", filepath.Join(dir, "keys")}} {
			t.Chdir(t.TempDir())
			stderr, code := runGet(t, append(args, l.URL())...)
			if got, _ := os.ReadFile("a.bin"); code != 0 || !bytes.Equal(got, content) {
				t.Errorf("%s, %q: exit code %d, %s", what, args, code, stderr)
			}
		}
		if after := listing(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: there is now\n%s\nwas\n%s", what, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	}
	get("a folder", dir)
	get("a folder that cannot be written", readOnly(t, dir))

	for _, args := range [][]string{{"--store", "missing"}, {"--keys", "missing"}} {
		if stderr, code := runGet(t, append(args, l.URL())...); code != exitUsage || !strings.Contains(stderr, args[0]+": missing is no directory, or not there") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
		if _, err := os.Lstat("missing"); err == nil {
			t.Errorf("%q: made it", args)
		}
	}
}

// listing has for each file its name, mode, size and time.
func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readOnly is dir where nothing can be written: for root, whom no mode keeps out, through a mount of its own.
func readOnly(t *testing.T, dir string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		for _, d := range []string{dir, filepath.Join(dir, "objects"), filepath.Join(dir, "keys")} {
			if err := os.Chmod(d, 0o500); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(d, 0o700) })
		}
		return dir
	}
	mounted := t.TempDir()
	for _, args := range [][]string{{"--bind", dir, mounted}, {"-o", "remount,bind,ro", mounted}} {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Skipf("mount %q: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", mounted).Run() })
	if err := os.WriteFile(filepath.Join(mounted, "x"), nil, 0o600); err == nil {
		t.Fatal("it can be written")
	}
	return mounted
}
