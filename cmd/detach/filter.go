package main

import (
	"errors"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

type filterCmd struct {
	configFlag
}

// Run rewrites one message by the policy of the first [[proxy]].
func (c *filterCmd) Run(e *env) (err error) {
	a, err := c.openNew()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	p := config.DefaultProxy()
	if len(a.cfg.Proxy) > 0 {
		p = a.cfg.Proxy[0]
	}
	return filter(e, a.transactions(p), a.spools)
}

// filter writes nothing before the whole message is ready. If it fails, the caller still has the
// original and decides what to do with it: on_failure does not apply.
func filter(e *env, cfg transaction.Config, spools *spool.Space) error {
	cfg.OnFailure = transaction.TempFail
	tx := transaction.Begin(cfg, transaction.Envelope{}, e.stdin, e.log)
	defer tx.Close(e.ctx)
	whole := spool.New(spools)
	defer whole.Close()
	if err := tx.Receive(e.ctx, 0); err != nil {
		return err
	}
	if _, err := tx.WriteTo(whole); err != nil {
		return err
	}
	if err := tx.Commit(e.ctx); err != nil {
		return err
	}
	if _, err := whole.WriteTo(e.stdout); err != nil {
		tx.Settle(e.ctx, transaction.Refused)
		return err
	}
	tx.Settle(e.ctx, transaction.Accepted)
	return nil
}
