//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Reading a store changes nothing in it, and needs no right to write there.
func TestGetChangesNothingInTheStore(t *testing.T) {
	site, content := fetchtest.New(t), fetchtest.Random(1<<20+1)
	l, dir := site.Store(t, content), site.Dir
	// Crashes left these files, long enough ago for the owner of the folders to remove them.
	for _, left := range []string{"objects/put-1.tmp", "keys/.new-1"} {
		write(t, filepath.Join(dir, left), "half", 0o600)
		old := time.Now().Add(-time.Hour)
		must.Succeed(t, os.Chtimes(filepath.Join(dir, left), old, old))
	}
	get := func(what, dir string) {
		t.Helper()
		before := listing(t, dir)
		for _, args := range [][]string{{"--store", dir}, {"--store", filepath.Join(dir, "objects"), "--keys", filepath.Join(dir, "keys")}} {
			t.Chdir(t.TempDir())
			wantGet(t, fmt.Sprintf("%s, %q", what, args), content, append(args, l.URL())...)
		}
		if after := listing(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: there is now\n%s\nwas\n%s", what, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	}
	get("a folder", dir)
	get("a folder that cannot be written", readOnly(t, dir))
}

// listing returns each file's name, mode, size and time.
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
	must.Succeed(t, err)
	return all
}

// readOnly returns dir as a folder that cannot be written. No mode stops root, so root gets a
// read-only mount.
func readOnly(t *testing.T, dir string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		for _, d := range []string{dir, filepath.Join(dir, "objects"), filepath.Join(dir, "keys")} {
			must.Succeed(t, os.Chmod(d, 0o500))
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
		t.Fatal("the mount can be written")
	}
	return mounted
}
