package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/migrate"
	"github.com/nkirchhoffer/detach-mta/internal/progress"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

type migrateCmd struct {
	configFlag
	To      string `placeholder:"STORE" required:"" enum:"embedded,kubo" help:"The new store: embedded or kubo. The old one is the other."`
	Delete  bool   `help:"Delete from the old store what the new one has, after reading all of it from the new one."`
	Workers int    `default:"8" help:"How many objects are copied at the same time (${default})."`
	JSON    bool   `name:"json" help:"Print the result as JSON."`
}

// Help implements kong.HelpProvider.
func (*migrateCmd) Help() string {
	return `Copies all stored objects into another store, and verifies them on the way. Links stay the same. It may be interrupted; run it again to go on.

So that every link works meanwhile: write the new store as store.kind and the old one as store.also, and restart detach serve; then run detach migrate, and again with --delete; then remove store.also, and restart detach serve.`
}

// Run copies all objects into another store, under the same CIDs, while mail flows. It can be
// interrupted and run again.
func (c *migrateCmd) Run(e *env) (err error) {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if c.Delete && cfg.Store.Kind != c.To {
		return usageError{fmt.Errorf("--delete: links are served from store.kind = %q: write store.kind = %q and store.also = %[1]q, restart detach serve, and run this again",
			cfg.Store.Kind, c.To)}
	}
	if c.Workers < 1 {
		return usageError{errors.New("--workers: write 1 or more")}
	}
	if err := enterDataDir(cfg); err != nil {
		return err
	}
	keys, err := keyring.Read(keysDir(cfg))
	if err != nil {
		return usageError{fmt.Errorf("data_dir: %w", durable.WithRemedy(err, cfg.DataDir))}
	}
	from, to, err := openBoth(cfg, c.To)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, from.Close(), to.Close()) }()
	bar := progress.NewCount(e.stderr, "objects")
	result, err := migrate.Run(e.ctx, migrate.Config{
		From: from, To: to, Prefix: vault.PinPrefix, Name: vault.Namer(keys), Workers: c.Workers, Delete: c.Delete,
		Progress: bar.Set,
		Failed: func(root cid.Cid, err error) {
			bar.Clear()
			fmt.Fprintf(e.stderr, "%s\n", plain(fmt.Sprintf("%s: %v", root, err)))
		},
	})
	bar.Clear()
	failed := c.outcome(e.ctx, result, err, from, to)
	if failed != nil && result == (migrate.Result{}) && !c.JSON {
		return failed // it did not begin
	}
	return errors.Join(c.report(e, result), failed)
}

// openBoth opens the store that objects leave, and the one into which they go.
func openBoth(cfg config.Config, kind string) (from, to ipfs.Store, err error) {
	other := map[string]string{"embedded": "kubo", "kubo": "embedded"}[kind]
	budget := memory.New(webMemory)
	if from, _, err = openKind(cfg, other, budget); err != nil {
		return nil, nil, err
	}
	if to, err = openGuarded(cfg, kind, budget); err != nil {
		return nil, nil, errors.Join(err, from.Close())
	}
	return from, to, nil
}

func (c *migrateCmd) report(e *env, r migrate.Result) (err error) {
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(r)
	}
	_, err = fmt.Fprintf(e.stdout, "%d copied to %s, %d were there already, %d deleted from the old store, %d failed\n", r.Copied, c.To, r.Present, r.Deleted, r.Failed)
	return err
}

// outcome returns what the operator must do before the migration is done; nil if that is nothing.
func (c *migrateCmd) outcome(ctx context.Context, r migrate.Result, err error, from, to ipfs.Store) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted: run the same command again to go on")
	case errors.Is(err, ipfs.ErrUnavailable):
		return fmt.Errorf("%w; %s, and run the same command again to go on", err, remedy(ctx, err, from, to))
	case err != nil:
		return err
	case r.Failed > 0:
		return fmt.Errorf("%s could not be copied, and stay in the old store: detach fsck says what is wrong with them", count(r.Failed, "object"))
	}
	return nil
}

// remedy says what to do about the store that fails.
func remedy(ctx context.Context, err error, from, to ipfs.Store) string {
	if broken := from.Check(ctx); broken != nil {
		return from.Remedy(broken)
	}
	return to.Remedy(err)
}
