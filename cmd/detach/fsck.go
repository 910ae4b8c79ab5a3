package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/progress"
	"github.com/nkirchhoffer/detach-mta/internal/upkeep"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

type fsckCmd struct {
	configFlag
	Sample  string   `placeholder:"N%" xor:"sample" help:"Read and verify every block of a random part of the objects."`
	All     bool     `xor:"sample" help:"Read and verify every block of all objects."`
	Repair  bool     `help:"Repair what cannot do harm: add objects to the ledger and take lost ones out, name pins, delete what nobody can open any more."`
	Delete  []string `placeholder:"CID" sep:"none" help:"Delete this object, if it is damaged and not in the ledger. May be given several times."`
	Workers int      `default:"8" help:"How many objects are read at the same time (${default})."`
	JSON    bool     `name:"json" help:"Print each finding, and at last the totals, as one line of JSON."`
}

// Run compares the keyring, the ledger and the store, and prints a line for each fault. It fails if
// one is left.
func (c *fsckCmd) Run(e *env) (err error) {
	sample, err := c.sample()
	if err != nil {
		return usageError{err}
	}
	if c.Workers < 1 {
		return usageError{errors.New("--workers: write 1 or more")}
	}
	doomed, err := c.doomed()
	if err != nil {
		return usageError{err}
	}
	a, err := c.openAsOwner(slog.New(slog.NewTextHandler(e.stderr, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	bar := progress.NewCount(e.stderr, "objects")
	var broken error // of standard output
	result, err := a.upkeep.Fsck(e.ctx, upkeep.FsckConfig{
		Sample: sample, Repair: c.Repair, Delete: doomed, Workers: c.Workers, Progress: bar.Set,
		Report: func(f upkeep.Finding) {
			bar.Clear()
			broken = errors.Join(broken, c.print(e, f))
		},
	})
	bar.Clear()
	if errors.Is(err, ipfs.ErrUnavailable) {
		err = fmt.Errorf("%w; %s", err, a.store.Remedy(err))
	}
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	if err := c.total(e, result); err != nil {
		return err
	}
	if left := result.Left(); left > 0 {
		return fmt.Errorf("%s left", count(left, "fault"))
	}
	return nil
}

// doomed returns the objects that the operator gives up.
func (c *fsckCmd) doomed() (map[cid.Cid]bool, error) {
	objects := make(map[cid.Cid]bool)
	for _, text := range c.Delete {
		one, err := link.ParseCID(text)
		if err != nil {
			return nil, errors.New("--delete: write the CID as fsck prints it, bafybei…")
		}
		objects[one] = true
	}
	return objects, nil
}

// sample returns the part of the objects that is verified, from 0 to 1.
func (c *fsckCmd) sample() (float64, error) {
	if c.All {
		return 1, nil
	}
	if c.Sample == "" {
		return 0, nil
	}
	number, ok := strings.CutSuffix(c.Sample, "%")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n >= 0 && n <= 100) {
		return 0, fmt.Errorf("--sample: %q is not a part: write 5%%, or --all", c.Sample)
	}
	return n / 100, nil
}

func (c *fsckCmd) print(e *env, f upkeep.Finding) error {
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(f)
	}
	do := f.Do
	if f.Repaired {
		do = "repaired"
	}
	subject := f.CID
	if subject == "" {
		subject = string(f.Epoch)
	}
	if subject != "" {
		subject += ": "
	}
	_, err := fmt.Fprintf(e.stdout, "%-8s  %s\n", f.Class, plain(subject+f.What+"; "+do))
	return err
}

func (c *fsckCmd) total(e *env, r upkeep.FsckResult) error {
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(r)
	}
	_, err := fmt.Fprintf(e.stdout, "%s, %d of them verified to the last block; %s repaired, %d left\n", count(r.Objects, "object"), r.Verified, count(r.Repaired, "fault"), r.Left())
	return err
}
