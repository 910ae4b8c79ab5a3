package main

import (
	"errors"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/proxy/rewrite"
)

type filterCmd struct {
	configFlag
}

// Run rewrites one message by the policy of the first [[proxy]]. A message in which nothing can be detached streams through; of any
// other nothing is written before all of it is stored, so that whoever called still has the original when this fails. That is also
// why on_failure is the caller's to decide here.
func (c *filterCmd) Run(e *env) (err error) {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	h, err := open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	p := config.DefaultProxy()
	if len(cfg.Proxy) > 0 {
		p = cfg.Proxy[0]
	}
	m, err := rewrite.Read(e.stdin, policy(p))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if !m.Passes() {
		batch := h.vault.Begin()
		if err := m.Detach(e.ctx, batch); err != nil {
			return errors.Join(err, batch.Discard(e.ctx))
		}
		if err := batch.Commit(e.ctx); err != nil {
			return errors.Join(err, batch.Discard(e.ctx))
		}
	}
	_, err = m.WriteTo(e.stdout)
	return err
}
