package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

type restoreCmd struct {
	configFlag
	Forwarded bool `help:"Restore the mail that this mail forwards, attached or quoted, and not this mail."`
}

// Run turns one rewritten message back into its original. It writes nothing before the whole
// original is spooled and checked.
func (c *restoreCmd) Run(e *env) (err error) {
	a, err := c.openAsOwner(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	links, err := c.links(e.stdin)
	if err != nil {
		return err
	}
	original := spool.New(nil)
	defer func() { err = errors.Join(err, original.Close()) }()
	if err := a.restore(e.ctx, original, links); err != nil {
		return err
	}
	_, err = original.WriteTo(e.stdout)
	return err
}

// links reads the mail to its end, and returns the links of its fields, or with Forwarded those of
// the mails in it.
func (c *restoreCmd) links(mail io.Reader) ([]link.Link, error) {
	finder := skeleton.NewFinder()
	own, err := skeleton.Links(io.TeeReader(mail, finder))
	if _, err := io.Copy(finder, mail); err != nil {
		return nil, fmt.Errorf("read mail: %w", err)
	}
	inside := slices.DeleteFunc(finder.Links(), func(l link.Link) bool { return slices.Contains(own, l) })
	switch {
	case c.Forwarded && len(inside) > 0:
		return inside, nil
	case c.Forwarded:
		return nil, fmt.Errorf("the mail forwards no mail with a %s field: was it forwarded without its header?", skeleton.Field)
	case errors.Is(err, skeleton.ErrNoField) && len(inside) > 0:
		// Not without being asked: a script might put it in the place of this mail.
		return nil, fmt.Errorf("%w, but in a mail that it forwards: restore that with --forwarded", err)
	case err != nil:
		return nil, fieldError(err)
	}
	return own, nil
}

// restore writes the original to w.
func (a *app) restore(ctx context.Context, w io.Writer, links []link.Link) error {
	file, err := a.skeleton(ctx, links)
	if err != nil {
		return err
	}
	defer file.Close()
	m, err := skeleton.Open(file)
	if err != nil {
		return err
	}
	return m.Restore(ctx, w, func(ctx context.Context, l link.Link, encoded bool) (io.ReadCloser, error) {
		part, err := a.vault.OpenPart(ctx, l.CID, l.Fragment, encoded)
		if err != nil {
			return nil, openError("the attachment "+l.CID.String()+" of the mail", err)
		}
		return part, nil
	})
}

// skeleton opens the first link that leads to a skeleton here. The other fields come from another
// Detach on the mail's way, or from anybody else: they must not keep the mail from being restored.
// The error says once what is wrong with the links that lead here.
func (a *app) skeleton(ctx context.Context, links []link.Link) (*vault.File, error) {
	var missing error
	var wrong []error
	said := make(map[string]bool)
	for _, l := range links {
		file, err := a.openSkeleton(ctx, l)
		switch {
		case err == nil:
			return file, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.Is(err, vault.ErrNotFound):
			missing = err
		case !said[err.Error()]:
			said[err.Error()] = true
			wrong = append(wrong, err)
		}
	}
	if len(wrong) == 0 {
		return nil, missing
	}
	return nil, errors.Join(wrong...)
}

func (a *app) openSkeleton(ctx context.Context, l link.Link) (*vault.File, error) {
	file, err := a.vault.Open(ctx, l.CID, l.Fragment)
	if err != nil {
		return nil, openError("the skeleton of the mail", err)
	}
	if file.Meta.Type != skeleton.Type {
		err := errors.New("the link in the " + skeleton.Field + " field leads to an attachment, not to a skeleton")
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// fieldError adds to an error of skeleton.Links what it may mean.
func fieldError(err error) error {
	switch {
	case errors.Is(err, skeleton.ErrNoField):
		return fmt.Errorf("%w: nothing was detached from it, or restore was off then, or the field was lost on its way", err)
	case errors.Is(err, link.ErrIncomplete):
		return fmt.Errorf("%w: the link was cut short on its way", err)
	}
	return err
}

// openError says why an object does not open, and what that may mean.
func openError(what string, err error) error {
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return fmt.Errorf("%s is not stored here: was the mail rewritten by another Detach, or with another data_dir? (%w)", what, err)
	case errors.Is(err, vault.ErrExpired):
		return fmt.Errorf("%s has expired, or the secret of its epoch was destroyed (%w)", what, err)
	case errors.Is(err, vault.ErrRevoked):
		return fmt.Errorf("%s was revoked: detach revoke --undo gives it back, unless its key is destroyed (%w)", what, err)
	case errors.Is(err, vault.ErrWrongKey):
		return fmt.Errorf("%s does not open with its link: the link was changed on its way (%w)", what, err)
	}
	return fmt.Errorf("open %s: %w", what, err)
}
