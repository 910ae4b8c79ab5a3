package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// denyList is the file of revoked CIDs, one a line, with # comments. Every lookup reads the file
// again if it has changed, so an entry takes effect immediately in every process.
type denyList struct {
	path string

	mu      sync.Mutex
	changed time.Time
	size    int64
	cids    map[cid.Cid]bool
}

// openDenyList refuses a list with a malformed line. A later reload skips malformed lines and obeys
// the others: a typing error must neither stop the gateway nor disable the next line.
func openDenyList(path string) (*denyList, error) {
	d := &denyList{path: path}
	bad, err := d.reload()
	if err != nil {
		return nil, err
	}
	if bad > 0 {
		return nil, fmt.Errorf("deny list %s, line %d: malformed CID; correct or remove the line", path, bad)
	}
	return d, nil
}

func (d *denyList) has(c cid.Cid) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.reload(); err != nil {
		return false, err // the file may be revoked, so it must not be served
	}
	return d.cids[c], nil
}

// reload reads the file if it has changed. bad is the number of its first malformed line, or 0.
func (d *denyList) reload() (bad int, err error) {
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.changed, d.size, d.cids = time.Time{}, 0, nil
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read deny list: %w; make it readable for the user that runs detach", err)
	case info.ModTime().Equal(d.changed) && info.Size() == d.size:
		return 0, nil
	}
	text, err := os.ReadFile(d.path)
	if err != nil {
		return 0, fmt.Errorf("read deny list: %w; make it readable for the user that runs detach", err)
	}
	d.cids, bad = parseDenied(text)
	d.changed, d.size = info.ModTime(), info.Size()
	return bad, nil
}

func parseDenied(text []byte) (cids map[cid.Cid]bool, bad int) {
	cids = make(map[cid.Cid]bool)
	for i, line := range strings.Split(string(text), "\n") {
		entry, _, _ := strings.Cut(line, "#")
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		c, err := link.ParseCID(entry)
		if err != nil {
			if bad == 0 {
				bad = i + 1
			}
			continue
		}
		cids[c] = true
	}
	return cids, bad
}
