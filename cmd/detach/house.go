package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
	"github.com/nkirchhoffer/detach-mta/ipfs"
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

// house is what every command stands on: the store, the keyring and the vault over both.
type house struct {
	cfg   config.Config
	store ipfs.Store
	vault *vault.Vault
	brand gateway.Brand // of the pages that serve shows
}

// open opens what the configuration names. The store need not be reachable yet: mail without attachments passes all the same.
func open(cfg config.Config) (*house, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, usageError{fmt.Errorf("data_dir: %w: make it, and give it to the user that runs Detach", err)}
	}
	keys, err := crypto.OpenKeyring(filepath.Join(cfg.DataDir, "keys"))
	if err != nil {
		return nil, usageError{fmt.Errorf("data_dir: %w", err)}
	}
	store, err := openStore(cfg)
	if err != nil {
		return nil, usageError{err}
	}
	mode := vault.Split
	if cfg.Keys.Mode == "link" {
		mode = vault.LinkOnly
	}
	v, err := vault.New(vault.Config{BaseURL: cfg.Gateway.URL, Mode: mode, Retention: time.Duration(cfg.Keys.Retention)}, store, keys, cfg.DataDir)
	if err != nil {
		return nil, usageError{errors.Join(fmt.Errorf("data_dir: %w", err), store.Close())}
	}
	return &house{cfg: cfg, store: store, vault: v}, nil
}

func openStore(cfg config.Config) (ipfs.Store, error) {
	if cfg.Store.Kind == "embedded" {
		s, err := ipfs.OpenEmbedded(filepath.Join(cfg.DataDir, "objects"))
		if err != nil {
			return nil, fmt.Errorf("data_dir: %w", err)
		}
		return s, nil
	}
	token, err := cfg.Store.Token()
	if err != nil {
		return nil, fmt.Errorf("store.token_file: %w", err)
	}
	s, err := ipfs.NewKubo(ipfs.KuboConfig{API: cfg.Store.API, Token: token})
	if err != nil {
		return nil, fmt.Errorf("store.api: %w", err)
	}
	return s, nil
}

func (h *house) Close() error { return h.store.Close() }

func (h *house) newProxy(p config.Proxy, observe func(proxy.Outcome), log *slog.Logger) *proxy.Server {
	failure := proxy.TempFail
	if p.OnFailure == "deliver" {
		failure = proxy.Deliver
	}
	hostname, _ := os.Hostname() // without one the proxy has a name for itself
	return proxy.New(proxy.Config{
		Hostname:  hostname,
		NextHop:   p.Reinject,
		Policy:    policy(p),
		MaxSize:   int64(p.MaxSize),
		OnFailure: failure,
		Observe:   observe,
	}, func() proxy.Batch { return h.vault.Begin() }, log)
}

func policy(p config.Proxy) rewrite.Policy {
	notice := rewrite.Bottom
	if p.Notice == "top" {
		notice = rewrite.Top
	}
	return rewrite.Policy{MinSize: int64(p.MinSize), Notice: notice, Language: p.Language, Restore: p.Restore}
}

// listen opens one address of the configuration, for its key.
func listen(ctx context.Context, key, address string) (net.Listener, error) {
	network, addr := config.Network(address)
	if network == "unix" {
		removeStale(ctx, addr)
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w: is another Detach running? Else choose another address", key, err)}
	}
	if network == "unix" {
		// Connecting needs the right to write. The group's members have it: put Postfix, or the web server, into it.
		if err := os.Chmod(addr, 0o660); err != nil {
			return nil, errors.Join(usageError{fmt.Errorf("%s: %w", key, err)}, l.Close())
		}
	}
	return l, nil
}

// removeStale removes the socket that a killed process left, and only one on which nobody answers.
func removeStale(ctx context.Context, path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return
	}
	if isRefused(err) {
		_ = os.Remove(path) // listening will say what is wrong
	}
}
