package ledger

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
)

const (
	// sweptSuffix ends the name of the file that says how far the list of an epoch is swept.
	sweptSuffix = ".swept"
	sweptTemp   = ".swept-" // begins the name of such a file that is being written
	// noteEvery is how many objects are deleted again after a crash.
	noteEvery = 1000
)

// sweptList is the list of an epoch whose objects are being deleted. It says which are, so that
// sweeping again costs nothing. Their lines stay.
type sweptList struct {
	ledger     *Ledger
	epoch      crypto.Epoch
	size, done int64 // bytes of the list, and of these the swept ones
}

// Sweep calls take for each object of an epoch's list for which no Sweep did before, until take
// returns an error. If note is true, it writes down how far it came. It returns nil if the epoch has
// no list.
func (l *Ledger) Sweep(ctx context.Context, e crypto.Epoch, note bool, take func(Entry) error) error {
	list, err := l.sweptList(e)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return list.each(ctx, note, take)
}

// Swept reports whether Sweep has taken all objects of an epoch's list. Its error wraps
// fs.ErrNotExist if the epoch has no list.
func (l *Ledger) Swept(e crypto.Epoch) (bool, error) {
	list, err := l.sweptList(e)
	return list.done >= list.size, err
}

// sweptList returns an error that wraps fs.ErrNotExist if the epoch has no list.
func (l *Ledger) sweptList(e crypto.Epoch) (sweptList, error) {
	list := sweptList{ledger: l, epoch: e}
	info, err := os.Stat(l.path(e))
	if err != nil {
		return list, err
	}
	list.size = info.Size()
	text, err := os.ReadFile(list.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return list, err
	}
	// A malformed file, or that of a longer list, says nothing.
	if done, err := strconv.ParseInt(string(text), 10, 64); err == nil && done > 0 && done <= list.size {
		list.done = done
	}
	return list, nil
}

func (l *sweptList) path() string { return l.ledger.sweptPath(l.epoch) }

func (l *Ledger) sweptPath(e crypto.Epoch) string {
	return filepath.Join(l.dir, string(e)+sweptSuffix)
}

// each calls sweep for each object that is not swept, until sweep fails. If note is true, it writes
// down how far it came.
func (l *sweptList) each(ctx context.Context, note bool, sweep func(Entry) error) error {
	begin, swept := l.done, 0
	_, err := l.ledger.lines(l.epoch, l.done, func(at int64, text []byte) error {
		if line, c, ok := parseLine(text); ok && !line.Gone {
			if err := errors.Join(ctx.Err(), sweep(line.entry(c, l.epoch))); err != nil {
				return err
			}
			swept++
		}
		l.done = at + int64(len(text))
		if !note || swept < noteEvery {
			return nil
		}
		swept = 0
		return l.note()
	})
	if note && l.done > begin {
		err = errors.Join(err, l.note())
	}
	return err
}

// note writes down how far the list is swept. It is not synced: what is lost is only deleted again.
func (l *sweptList) note() (err error) {
	if err := durable.RemoveAbandoned(l.ledger.dir, sweptTemp, ""); err != nil {
		return err
	}
	f, err := durable.CreateLocked(l.ledger.dir, sweptTemp+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, durable.Remove(f.Name()), f.Close()) }()
	if _, err := f.WriteString(strconv.FormatInt(l.done, 10)); err != nil {
		return err
	}
	return os.Rename(f.Name(), l.path())
}
