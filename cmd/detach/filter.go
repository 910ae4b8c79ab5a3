package main

import (
	"errors"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

type filterCmd struct {
	configFlag
}

// Run rewrites one message by the policy of the first [[proxy]]. Nothing is written before all of it is there, so that whoever called
// still has the original, and nothing else, when this fails. That is also why on_failure is the caller's to decide here.
func (c *filterCmd) Run(e *env) (err error) {
	a, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	p := config.DefaultProxy()
	if len(a.cfg.Proxy) > 0 {
		p = a.cfg.Proxy[0]
	}
	batch := a.vault.Begin()
	defer func() { err = errors.Join(err, batch.Close()) }()
	if err := filter(e, policy(p), batch); err != nil {
		return errors.Join(err, batch.Discard(e.ctx))
	}
	return nil
}

func filter(e *env, policy rewrite.Policy, batch *vault.Batch) (err error) {
	m, err := rewrite.Read(e.stdin, policy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if !m.Passes() {
		if err := m.Detach(e.ctx, batch); err != nil {
			return err
		}
	}
	whole := spool.New(policy.TempDir)
	defer func() { err = errors.Join(err, whole.Close()) }()
	if _, err := m.WriteTo(whole); err != nil {
		return err
	}
	if err := batch.Commit(e.ctx); err != nil {
		return err
	}
	_, err = whole.WriteTo(e.stdout)
	return err
}
