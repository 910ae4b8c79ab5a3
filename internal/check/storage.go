package check

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
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
		c.refuse(key, "%v: %s", err, cmp.Or(durable.Remedy(err, dir), "name another"))
		return false
	case !info.IsDir():
		c.refuse(key, "%s is not a directory: name another", dir)
		return false
	case !durable.OwnedByUs(info):
		c.refuse(key, "%s belongs to another user: run this as the user that runs Detach, or chown -R it to that user", dir)
		return false
	case info.Mode().Perm()&0o077 != 0:
		c.warn(key, "others may enter %s (mode %04o): chmod 0700 %[1]s", dir, info.Mode().Perm())
	}
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		c.fail(key, "%v: %s", err, cmp.Or(durable.Remedy(err, dir), "let this user write there"))
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
	if _, err := keyring.Open(filepath.Join(cfg.DataDir, "keys")); err != nil {
		c.refuse("keys", "data_dir: %v", durable.WithRemedy(err, cfg.DataDir))
		return
	}
	store, err := c.target.Open()
	if err != nil {
		c.refuse("store", "%v", err)
		return
	}
	defer store.Close()
	c.temporary(cfg.DataDir)
	problems := c.target.Problems()
	if !slices.ContainsFunc(problems, func(f Finding) bool { return f.What == "keys" }) {
		c.ok("keys", "only this user can read the keyring; back it up: without it no link opens")
	}
	for _, f := range problems {
		c.found(f.Level, f.What, "%s", f.Text)
	}
	inner := store.Unwrap()
	err = Store(c.ctx, inner)
	c.space(store, err == nil)
	if err != nil {
		c.fail("store", "%v: %s; until then mail with attachments gets 451", err, inner.Remedy(err))
		return
	}
	c.ok("store", "%s: written, read and deleted", cfg.Store.Kind)
	if warner, ok := inner.(ipfs.Warner); ok {
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		for _, w := range warner.Warnings(ctx) {
			c.warn("store", "%s", w)
		}
	}
}

// temporary checks that the temporary files of mails and downloads, which may be gigabytes, are on
// a disk.
func (c *checker) temporary(dataDir string) {
	if freespace.InMemory(dataDir) {
		c.fail("data_dir", "%s is in memory (a tmpfs): a large mail would take the memory that the service has; put data_dir on a disk", filepath.Join(dataDir, "tmp"))
	}
}

// space compares the free space with store.min_free. If the store does not work, its free space is
// unknown, and the store's own failure says more.
func (c *checker) space(store *freespace.Store, works bool) {
	const key = "store.min_free"
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	for _, g := range store.Guards() {
		state, err := g.State(ctx)
		switch {
		case err != nil && (state.Min == 0 || !works):
		case err != nil:
			c.warn(key, "%s: free space is not known, so attachments are stored until the disk is full: %v", g.Name(), err)
		case state.Low():
			c.fail(key, "%s: %s: free some space, or lower min_free; until then mail with attachments gets 451", g.Name(), state)
		case state.Near():
			c.warn(key, "%s: %s: free some space soon", g.Name(), state)
		default:
			c.ok(key, "%s: %s", g.Name(), state)
		}
	}
}
