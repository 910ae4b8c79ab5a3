package denied

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// cutPattern is the beginning of a ruling, from its third character after the CID on.
var cutPattern = regexp.MustCompile(`^(bafybei[a-z2-7]{52}) (?:baf[a-z2-7]{0,55}|baf[a-z2-7]{56} (?:[0-9-]{1,10}(?:\.[a-z2-7]{0,8})?|[0-9-]{7,10}\.[a-z2-7]{8} (?:|d|de|den|deny|u|un|und|undo|(?:deny|undo) [0-9T:.Z-]*)))$`)

// cutRuling returns the object of a ruling that a crash cut short, or false. Such a line denies, like
// every malformed one: nobody knows what it was to say. A ruling that was cut around the beginning or
// the end of its core looks like the line of an operator, and is not recognized.
func cutRuling(line string) (cid.Cid, bool) {
	found := cutPattern.FindStringSubmatch(line)
	if found == nil {
		return cid.Undef, false
	}
	if _, _, whole := parseRuling(line); whole {
		return cid.Undef, false
	}
	c, err := link.ParseCID(found[1])
	return c, err == nil
}

// Mend makes comments of the rulings on these objects that a crash cut short. The caller has written
// the rulings that hold in their place. It changes one byte of each line, where the line stands, so
// that other processes may append meanwhile.
func (d *List) Mend(objects ...cid.Cid) error {
	list, err := d.Content()
	if err != nil || len(list.cut) == 0 {
		return err
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("mend the deny list: %w", err)
	}
	text, err := io.ReadAll(f)
	if err == nil {
		err = mend(f, text, objects)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("mend the deny list: %w", err)
	}
	return nil
}

func mend(f io.WriterAt, text []byte, objects []cid.Cid) error {
	wanted := make(map[cid.Cid]bool, len(objects))
	for _, c := range objects {
		wanted[c] = true
	}
	at := int64(0)
	for row := range bytes.SplitAfterSeq(text, []byte("\n")) {
		if c, cut := cutRuling(strings.TrimRight(string(row), "\r\n")); cut && wanted[c] {
			if _, err := f.WriteAt([]byte("#"), at); err != nil {
				return err
			}
		}
		at += int64(len(row))
	}
	return nil
}
