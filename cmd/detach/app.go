package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/check"
	"github.com/nkirchhoffer/detach-mta/internal/clock"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
	"github.com/nkirchhoffer/detach-mta/proxy"
)

// configFlag is the flag of every command that needs the configuration.
type configFlag struct {
	Config string `placeholder:"FILE" default:"/etc/detach.toml" env:"DETACH_CONFIG" help:"The configuration (${default})."`
}

func (c configFlag) load() (config.Config, error) {
	cfg, err := config.Load(c.Config, os.Environ())
	if err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// refuseIdle refuses a configuration in which serve would do nothing.
func refuseIdle(cfg config.Config) error {
	if len(cfg.Proxy) == 0 && cfg.Gateway.Listen == "" {
		return usageError{errors.New("nothing to serve: give a [[proxy]], or gateway.listen")}
	}
	return nil
}

// loadBrand reads what the pages show about the operator.
func loadBrand(g config.Gateway) (gateway.Brand, error) {
	b := gateway.Brand{Name: g.Name, Color: g.Color, Contact: g.Contact}
	if g.Logo != "" {
		logo, err := os.ReadFile(g.Logo)
		if err != nil {
			return b, usageError{fmt.Errorf("gateway.logo: %w: name an image that this user can read, or write \"\"", err)}
		}
		b.Logo = logo
	}
	if err := b.Check(); err != nil {
		return b, usageError{errors.New("gateway." + strings.ReplaceAll(err.Error(), "\n", "\ngateway."))}
	}
	return b, nil
}

// The memory that grows with the number of sessions and requests is bounded. The bounds, half as
// much again for garbage, 20 MiB for the connections of 600 readers, and 30 MiB for the process
// itself make 256 MiB together. Mail and the gateway have separate budgets, so that slow readers do
// not stop mail.
const (
	mailMemory = 40 << 20 // spools, blocks that are filled, what is known of a mail; see spool.Space
	webMemory  = 48 << 20 // blocks that are read
	// maxSessions bounds the sessions of all [[proxy]] together. A session has 100 to 200 KiB
	// besides the budget: its buffers, its goroutines' stacks, and the first 32 KiB of what is
	// known of its mail.
	maxSessions = 256
	// proxySessions bounds those of one [[proxy]]: twice Postfix's default_process_limit.
	proxySessions = 200
)

// spoolDisk bounds the temporary files of all mails. Three of the largest mails that
// docs/postfix.md allows, of 2 GiB each, fit into three quarters of it. The last quarter is for
// small files.
const spoolDisk = 8 << 30

// app is what every command needs: the configuration, the memory, the store, the vault, and what
// works on all that the vault has stored.
type app struct {
	cfg    config.Config
	spools *spool.Space   // of mails
	mail   *memory.Budget // shared with spools
	web    *memory.Budget
	store  *freespace.Store
	ledger *ledger.Ledger
	clock  *clock.Clock
	vault  *vault.Vault
	upkeep *upkeep.Keeper
}

// openNew loads the configuration and opens what it names. It makes data_dir if that does not
// exist. The caller closes the app.
func (c configFlag) openNew() (*app, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	if err := becomeOwner(cfg.DataDir); err != nil {
		return nil, usageError{fmt.Errorf("data_dir: %w", err)}
	}
	return openApp(cfg, slog.New(slog.DiscardHandler))
}

// openAsOwner is openNew for a command about what is stored: data_dir must exist.
func (c configFlag) openAsOwner(log *slog.Logger) (*app, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	if err := enterDataDir(cfg); err != nil {
		return nil, err
	}
	return openApp(cfg, log)
}

// enterDataDir makes the process one of the user that owns data_dir. It does not make the
// directory: a wrong path would look like an installation in which nothing is stored, and a
// directory that root has made could not be used by the service.
func enterDataDir(cfg config.Config) error {
	switch _, err := os.Stat(cfg.DataDir); {
	case errors.Is(err, fs.ErrNotExist):
		return usageError{fmt.Errorf("data_dir: %s does not exist: make it, mode 0700, for the user that runs Detach", cfg.DataDir)}
	case err != nil:
		return usageError{fmt.Errorf("data_dir: %w", durable.WithRemedy(err, cfg.DataDir))}
	}
	if err := becomeOwner(cfg.DataDir); err != nil {
		return usageError{fmt.Errorf("data_dir: %w", err)}
	}
	return nil
}

// openApp opens what the configuration names. The store need not be reachable yet: mail without
// attachments passes regardless.
func openApp(cfg config.Config, log *slog.Logger) (*app, error) {
	if err := durable.MakeDirectory(filepath.Clean(cfg.DataDir)); err != nil {
		return nil, usageError{fmt.Errorf("data_dir: %w: make it, and give it to the user that runs Detach", err)}
	}
	keys, err := keyring.Open(filepath.Join(cfg.DataDir, "keys"))
	if err != nil {
		return nil, usageError{fmt.Errorf("data_dir: %w", durable.WithRemedy(err, cfg.DataDir))}
	}
	temporary := filepath.Join(cfg.DataDir, "tmp")
	if err := spool.Clean(temporary); err != nil {
		return nil, usageError{fmt.Errorf("data_dir: %w: let this user write there", err)}
	}
	mail, web := memory.New(mailMemory), memory.New(webMemory)
	spools := spool.NewSpace(temporary, mail, spoolDisk)
	// Objects leave the whole minimum free, and temporary files half of it: when nothing more is
	// stored, mail without attachments still passes.
	guard := freespace.Dir(temporary, freespace.MinFree(cfg.Store.MinFree.Of).Half())
	spools.Admit = func(n int64) error { return guard.Admit(context.Background(), n) }
	store, err := openStore(cfg, web)
	if err != nil {
		return nil, usageError{err}
	}
	a := &app{cfg: cfg, spools: spools, mail: mail, web: web, store: store}
	if err := a.openVault(keys, log); err != nil {
		return nil, usageError{errors.Join(err, store.Close())}
	}
	return a, nil
}

// openVault opens the vault, and what it shares with upkeep.
func (a *app) openVault(keys *keyring.Keyring, log *slog.Logger) (err error) {
	escrow, err := escrowOf(a.cfg)
	if err != nil {
		return err
	}
	mode, dir := vault.Split, a.cfg.DataDir
	if a.cfg.Keys.Mode == "link" {
		mode = vault.LinkOnly
	}
	if a.ledger, err = ledger.Open(filepath.Join(dir, "ledger")); err != nil {
		return fmt.Errorf("data_dir: %w", durable.WithRemedy(err, dir))
	}
	list := denyList(a.cfg, log)
	past := func() (time.Time, error) { return vault.LastKnown(a.ledger, keys, machineClock.Now()) }
	a.clock = clock.New(filepath.Join(dir, "clock"), machineClock, past)
	a.vault, err = vault.New(vault.Config{
		BaseURL: a.cfg.Gateway.URL, Mode: mode, Escrow: escrow, Pending: filepath.Join(dir, "pending"), Spools: a.spools, Log: log,
	}, vault.Deps{Store: a.store, Keys: keys, Ledger: a.ledger, Denied: list, Clock: a.clock})
	if err != nil {
		return fmt.Errorf("data_dir: %w", durable.WithRemedy(err, dir))
	}
	a.upkeep = upkeep.New(upkeep.Deps{Vault: a.vault, Store: a.store, Keys: keys, Ledger: a.ledger, Denied: list, Clock: a.clock})
	// All directories are made. Nothing is stored before their names are on disk.
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

func denyList(cfg config.Config, log *slog.Logger) *denied.List {
	return denied.New(filepath.Join(cfg.DataDir, "denied"), log)
}

// escrowOf returns how the keys of new files are sealed for the operator; nil if they are not.
func escrowOf(cfg config.Config) (func(crypto.Key) ([]byte, error), error) {
	recipients, err := cfg.Keys.Escrow.Recipients()
	if err != nil || len(recipients) == 0 {
		return nil, err
	}
	return func(k crypto.Key) ([]byte, error) { return k.SealEscrow(recipients...) }, nil
}

// nodeAge is how long a node's answer about its free space is used.
const nodeAge = 5 * time.Second

// openStore opens the configured store, guarded by store.min_free, and the one in which older
// objects still are.
func openStore(cfg config.Config, budget *memory.Budget) (*freespace.Store, error) {
	store, err := openGuarded(cfg, cfg.Store.Kind, budget)
	if err != nil || cfg.Store.Also == "" {
		return store, err
	}
	older, _, err := openKind(cfg, cfg.Store.Also, budget)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return freespace.NewStore(ipfs.NewFallback(store.Unwrap(), older), store.Guards()...), nil
}

// openGuarded opens a store of a kind, guarded by store.min_free.
func openGuarded(cfg config.Config, kind string, budget *memory.Budget) (*freespace.Store, error) {
	store, guards, err := openKind(cfg, kind, budget)
	if err != nil {
		return nil, err
	}
	// With every store, the data directory holds the ledger and the mails in transit.
	guards = append([]*freespace.Guard{freespace.Dir(cfg.DataDir, cfg.Store.MinFree.Of)}, guards...)
	return freespace.NewStore(store, guards...), nil
}

// openKind opens a store of a kind. guards are those of its disk, if that is not the one of
// data_dir. This switch is the only place that knows the kinds of stores.
func openKind(cfg config.Config, kind string, budget *memory.Budget) (store ipfs.Store, guards []*freespace.Guard, err error) {
	key := "data_dir"
	switch kind {
	case "embedded":
		store, err = embedded.Open(filepath.Join(cfg.DataDir, "objects"), budget)
	case "kubo":
		key = "store.kubo"
		var node *kubo.Store
		if node, err = kubo.New(kubo.Config{API: cfg.Store.Kubo.API, Token: cfg.Store.Kubo.Token, Memory: budget}); err == nil {
			store = node
			guards = append(guards, freespace.New("the node, by its Datastore.StorageMax", cfg.Store.MinFree.Of, nodeAge, node.Space))
		}
	default:
		key, err = "store.kind", fmt.Errorf("there is no store %q", kind)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", key, durable.WithRemedy(err, cfg.DataDir))
	}
	return store, guards, nil
}

func (a *app) Close() error { return a.store.Close() }

func (a *app) newProxy(p config.Proxy, observe func(transaction.Outcome, int), log *slog.Logger) *proxy.Server {
	hostname, _ := os.Hostname() // best effort: the proxy has a default
	cfg := proxy.Config{
		Hostname: hostname, NextHop: p.Reinject, Mail: a.transactions(p), MaxSize: int64(p.MaxSize),
		MaxSessions: min(proxySessions, max(1, maxSessions/len(a.cfg.Proxy))), Observe: observe, LoopMark: check.Mark(a.cfg),
	}
	return proxy.New(cfg, log)
}

// transactions returns how Detach handles the mails of p.
func (a *app) transactions(p config.Proxy) transaction.Config {
	policy := rewrite.Policy{
		MinSize: int64(p.MinSize), Notice: rewrite.Bottom, Language: p.Language,
		Operator: a.cfg.Gateway.Name, Restore: p.Restore, RestoreOmit: p.RestoreOmit, Space: a.spools,
	}
	if p.Notice == "top" {
		policy.Notice = rewrite.Top
	}
	retention := a.cfg.RetentionOf(p)
	c := transaction.Config{
		Policy: func(transaction.Envelope) rewrite.Policy { return policy },
		Begin:  func() transaction.Batch { return a.vault.Begin(retention) },

		SenderLimit: transaction.NewSenderLimit(int64(p.SenderLimit)),
	}
	if p.OnFailure == "deliver" {
		c.OnFailure = transaction.Deliver
	}
	return c
}
