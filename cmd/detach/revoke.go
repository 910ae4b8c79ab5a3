package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/denied"
	"github.com/nkirchhoffer/detach-mta/internal/ledger"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
)

type revokeCmd struct {
	configFlag
	Links   []string `arg:"" name:"link" help:"Links or CIDs, as they were pasted. The part after # is not needed. - reads them from standard input."`
	Message bool     `help:"Take all objects of the mails that these belong to."`
	Undo    bool     `xor:"when" help:"Serve the files again. Possible until their keys are destroyed, after keys.grace."`
	Now     bool     `xor:"when" help:"Destroy the files' keys immediately and for good, and delete the objects."`
	JSON    bool     `name:"json" help:"Print one JSON object for each object."`
}

// Run revokes, gives back or destroys objects. Objects that cannot be found do not keep it from the
// others.
func (c *revokeCmd) Run(e *env) (err error) {
	cids, err := namedCIDs(c.Links, e.stdin)
	if err != nil {
		return usageError{err}
	}
	a, err := c.openAsOwner(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	find := a.upkeep.Find
	if c.Message {
		find = a.upkeep.FindMails
	}
	entries, missing := find(e.ctx, cids...)
	r := revocation{revokeCmd: c, app: a, entries: entries, out: e.stdout}
	return errors.Join(r.run(e.ctx), missing)
}

// maxPasted bounds what is read from standard input: the CIDs of a million objects.
const maxPasted = 64 << 20

// namedCIDs returns the objects that the arguments of a command name, each once. "-" stands for a list
// on standard input. No error quotes an argument: it may hold a key.
func namedCIDs(args []string, stdin io.Reader) (cids []cid.Cid, err error) {
	for i, arg := range args {
		found := link.FindCIDs(arg)
		if arg == "-" {
			if found, err = pasted(stdin); err != nil {
				return nil, err
			}
		} else if len(found) == 0 {
			return nil, fmt.Errorf("there is no whole CID in argument %d: paste the link, or write its part that begins with bafybei", i+1)
		}
		cids = append(cids, found...)
	}
	seen := make(map[cid.Cid]bool)
	return slices.DeleteFunc(cids, func(one cid.Cid) bool {
		double := seen[one]
		seen[one] = true
		return double
	}), nil
}

// pasted reads links and CIDs, as the deny list has them.
func pasted(stdin io.Reader) ([]cid.Cid, error) {
	text, err := io.ReadAll(io.LimitReader(stdin, maxPasted+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(text) > maxPasted {
		return nil, fmt.Errorf("standard input has more than %d MB: give the CIDs in several parts", maxPasted>>20)
	}
	cids, unreadable := denied.ReadLinks(string(text))
	if len(unreadable) > 0 {
		return nil, fmt.Errorf("there is no whole CID in line %d of standard input", unreadable[0])
	}
	return cids, nil
}

// revocation is one run of the command on the objects that were found.
type revocation struct {
	*revokeCmd
	app     *app
	entries []ledger.Entry
	out     io.Writer
}

func (r revocation) run(ctx context.Context) error {
	before, err := r.statuses()
	if err != nil || len(r.entries) == 0 {
		return err
	}
	failed := r.do(ctx, before)
	after, err := r.statuses() // also after an error: a part may be done
	if err != nil {
		return errors.Join(failed, err)
	}
	var errs []error
	for i, e := range r.entries {
		o := outcome{e, before[i], after[i], r.revokeCmd, time.Duration(r.app.cfg.Keys.Grace), r.app.deniedFile()}
		if err := r.print(o); err != nil {
			return errors.Join(failed, err)
		}
		errs = append(errs, o.failure())
	}
	if failed == nil && !r.JSON {
		r.remark(before, after)
	}
	return errors.Join(failed, errors.Join(errs...))
}

func (r revocation) do(ctx context.Context, before []upkeep.Status) error {
	if r.Undo {
		return r.app.upkeep.Undo(r.in(before, upkeep.StateRevoked, upkeep.StateEnded)...)
	}
	if err := r.app.upkeep.Revoke(r.in(before, upkeep.StateServed, upkeep.StateRevoked)...); err != nil || !r.Now {
		return err
	}
	return r.app.upkeep.Destroy(ctx, r.entries...)
}

// in returns the objects that were in one of these states.
func (r revocation) in(before []upkeep.Status, states ...upkeep.State) (some []ledger.Entry) {
	for i, e := range r.entries {
		if slices.Contains(states, before[i].State) {
			some = append(some, e)
		}
	}
	return some
}

func (r revocation) statuses() ([]upkeep.Status, error) {
	all, err := r.app.upkeep.Statuses()
	if err != nil {
		return nil, err
	}
	statuses := make([]upkeep.Status, len(r.entries))
	for i, e := range r.entries {
		if statuses[i], err = all.Of(e); err != nil {
			return nil, err
		}
	}
	return statuses, nil
}

func (r revocation) print(o outcome) error {
	if !r.JSON {
		_, err := fmt.Fprintf(r.out, "%s  %s\n", o.CID, o.says())
		return err
	}
	return json.NewEncoder(r.out).Encode(struct {
		listed
		DestroyedAfter *time.Time `json:"destroyed_after"`
		Changed        bool       `json:"changed"`
	}{toListed(o.Entry, o.after), known(o.due()), o.before.State != o.after.State})
}

// remark says what the command did and did not do, once for all objects.
func (r revocation) remark(before, after []upkeep.Status) {
	has := func(statuses []upkeep.Status, state upkeep.State) bool {
		return slices.ContainsFunc(statuses, func(s upkeep.Status) bool { return s.State == state })
	}
	switch {
	case has(after, upkeep.StateRevoked) && !r.Undo:
		fmt.Fprintf(r.out, revokedRemark, r.app.deniedFile())
	case has(after, upkeep.StateDestroyed) && r.Now && r.any(func(e ledger.Entry) bool { return !e.KID.Link }):
		fmt.Fprint(r.out, destroyedRemark)
	}
	if !r.Undo && !r.Message && r.any(func(e ledger.Entry) bool { return e.Kind == ledger.KindList }) {
		fmt.Fprint(r.out, filesRemark)
	}
	if !r.Undo && r.any(func(e ledger.Entry) bool { return e.KID.Link }) {
		fmt.Fprint(r.out, linkRemark)
	}
}

func (r revocation) any(is func(ledger.Entry) bool) bool { return slices.ContainsFunc(r.entries, is) }

const (
	revokedRemark = `
From now on, no gateway that reads %s gives these files out. Until their keys are
destroyed, detach revoke --undo takes this back. A person who has downloaded a file keeps it.
`
	destroyedRemark = `
The keys are destroyed in this data directory, and the objects are deleted from the store. Nothing
that Detach stored opens the files any more. Detach cannot reach:
- a person who has downloaded a file, or asked a gateway for its half of the key;
- backups, exports and snapshots of the key files. Delete the old ones;
- other machines with the same key files. Copy keys/destroyed and the deny list to them;
- a copy of an object that was stored with keys.escrow, for those who have the escrow identity.
`
	// filesRemark is for an operator who took the link to all files for all files.
	filesRemark = `
The list of a mail's files no longer opens. The links to the single files still do, unless these were
revoked, too: with --message, detach revoke takes the list and all files of its mail.
`
	linkRemark = `
Files of mode "link" have no key here that could be destroyed. Their links open any copy of the
object that exists outside of this store, without a gateway.
`
)

func (a *app) deniedFile() string { return filepath.Join(a.cfg.DataDir, "denied") }

// outcome is what the command did with one object.
type outcome struct {
	ledger.Entry
	before, after upkeep.Status
	cmd           *revokeCmd
	grace         time.Duration
	denied        string // the path of the deny list
}

// due returns when the object's key will be destroyed, or zero.
func (o outcome) due() time.Time {
	if o.after.State != upkeep.StateRevoked || o.after.Revoked.IsZero() {
		return time.Time{}
	}
	return o.after.Revoked.Add(o.grace)
}

// says returns what holds for the object now, in words.
func (o outcome) says() string {
	switch o.after.State {
	case upkeep.StateServed:
		if o.before.State == upkeep.StateServed {
			return "is not revoked"
		}
		return "served again"
	case upkeep.StateRevoked:
		if o.due().IsZero() {
			return "revoked by the deny list"
		}
		return "revoked; destroyed after " + o.due().UTC().Format("2006-01-02 15:04 UTC")
	case upkeep.StateEnded:
		return "not served since its end: the last day was " + endDay(o.after.End)
	case upkeep.StateDestroyed:
		if o.before.State == upkeep.StateDestroyed {
			return "was destroyed before"
		}
		return "destroyed"
	}
	return string(o.after.State)
}

// failure returns why the object is not as the command was to make it.
func (o outcome) failure() error {
	switch {
	case !o.cmd.Undo:
		return nil
	case o.after.State == upkeep.StateDestroyed:
		return fmt.Errorf("%s cannot be given back: its key is destroyed, and nothing brings it back", o.CID)
	case len(o.after.Lines) > 0:
		return fmt.Errorf("%s stays revoked, by line %d of %s: take the line out", o.CID, o.after.Lines[0], o.denied)
	}
	return nil
}
