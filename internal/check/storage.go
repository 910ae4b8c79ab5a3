package check

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

// dataDir reports whether the directory exists and is ours. It is not created here: if another user
// created it, it would hold files that the service cannot use.
func (c *checker) dataDir(dir string) bool {
	const key = "data_dir"
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		say := c.fail
		if mayWrite(existing(dir)) != nil { // otherwise detach serve creates it
			say = c.refuse
		}
		say(key, "%s does not exist: make it, mode 0700, for the user that runs Detach", dir)
		return false
	case err != nil:
		c.refuse(key, "%v: let this user use it, or name another", err)
		return false
	case !info.IsDir():
		c.refuse(key, "%s is not a directory: name another", dir)
		return false
	case !durable.OwnedByUs(info):
		c.refuse(key, "%s belongs to another user: run this as the user that runs Detach", dir)
		return false
	case info.Mode().Perm()&0o077 != 0:
		c.warn(key, "others may enter %s (mode %04o): chmod 0700 %[1]s", dir, info.Mode().Perm())
	}
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		c.fail(key, "%v: let this user write there", err)
		return false
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		c.fail(key, "%v", err)
		return false
	}
	c.ok(key, "%s can be written", dir)
	return true
}

// existing returns the path, or the nearest folder above it that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// storage opens the keyring and everything else in the data directory, and writes to the store.
func (c *checker) storage() {
	cfg := c.target.Config
	if _, err := crypto.OpenKeyring(filepath.Join(cfg.DataDir, "keys")); err != nil {
		c.refuse("keys", "data_dir: %v", err)
		return
	}
	c.ok("keys", "only this user can read the keyring; back it up: without it no link opens")
	store, err := c.target.Open()
	if err != nil {
		c.refuse("store", "%v: let this user use it", err)
		return
	}
	defer store.Close()
	if err := Store(c.ctx, store); err != nil {
		c.fail("store", "%v: start it, or correct [store]; until then mail with attachments gets 451", err)
		return
	}
	c.ok("store", "%s: written, read and deleted", cfg.Store.Kind)
	if warner, ok := store.(ipfs.Warner); ok {
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		for _, w := range warner.Warnings(ctx) {
			c.warn("store", "%s", w)
		}
	}
}
