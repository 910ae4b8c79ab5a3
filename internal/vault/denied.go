package vault

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// denyList is the file of revoked objects: CIDs or links, one a line, with # comments. Every lookup
// reads the file again if it has changed, so an entry takes effect immediately in every process.
// Only the CIDs are kept in memory: a pasted link holds a key.
//
// A line without a CID revokes nothing and is reported. It stops neither the gateway nor the mail,
// and the other lines count.
type denyList struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	failing bool // the last lookup could not read the file
	read    bool // the fields below are those of a file; false: there was none
	stamp   durable.Stamp
	settled bool // stamp would show a change
	sum     [sha256.Size]byte
	list    denied
}

// denied is what a deny list says. Lines are numbered from 1.
type denied struct {
	cids       map[cid.Cid]bool
	unreadable []int // lines in which there is no CID
	links      []int // lines that hold more than a CID, perhaps the key of the file
}

func newDenyList(path string, log *slog.Logger) *denyList {
	return &denyList{path: path, log: log}
}

// has reports whether an object is revoked. While the file exists and cannot be read, every object
// may be revoked, and has returns an error.
func (d *denyList) has(c cid.Cid) (bool, error) {
	list, err := d.current()
	return list.cids[c], err
}

// current returns what the file says now. The caller must not change it.
func (d *denyList) current() (denied, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.reload()
	if errors.Is(err, fs.ErrNotExist) && !isSymlink(d.path) {
		d.read, d.list, err = false, denied{}, nil
	}
	if err == nil {
		d.failing = false
		return d.list, nil
	}
	err = fmt.Errorf("cannot read the deny list: %w; make it readable for the user that runs detach: until then no file is served", err)
	if !d.failing {
		d.failing = true
		d.log.Error("no file is served", "error", err)
	}
	return denied{}, err
}

// isSymlink reports whether there is a symbolic link at path. One that leads nowhere is no missing
// list: its file system may not be mounted.
func isSymlink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// reload reads the file if it has changed.
func (d *denyList) reload() error {
	stamp, err := durable.StampOf(d.path) // before the file is read: a later change shows
	if err != nil || d.read && d.settled && stamp == d.stamp {
		return err
	}
	now := time.Now()
	text, err := os.ReadFile(d.path)
	if err != nil {
		return err
	}
	d.stamp, d.settled = stamp, stamp.Settled(now)
	if sum := sha256.Sum256(text); !d.read || sum != d.sum {
		d.read, d.sum, d.list = true, sum, parseDenied(string(text))
		d.list.report(d.log)
	}
	return nil
}

func (d *denied) report(log *slog.Logger) {
	reportLines(log, "a line of the deny list revokes nothing: there is no CID in it", d.unreadable)
	reportLines(log, "a line of the deny list has more than a CID, perhaps a key; the CID is enough", d.links)
}

// maxLogged bounds the lines that are logged one by one: another file may stand in the list's place.
const maxLogged = 100

func reportLines(log *slog.Logger, message string, numbers []int) {
	for _, n := range numbers[:min(len(numbers), maxLogged)] {
		log.Warn(message, "line", n)
	}
	if more := len(numbers) - maxLogged; more > 0 {
		log.Warn(message, "more", more)
	}
}

// problems returns one problem for each kind of line that the operator should correct.
func (d *denyList) problems() (all []Problem) {
	list, err := d.current()
	if err != nil {
		return []Problem{{Part: "denied", Err: err}}
	}
	if len(list.unreadable) > 0 {
		all = append(all, Problem{Part: "denied", Err: fmt.Errorf("%s has no CID in %s, so nothing is revoked there; write the CID that is in the link", d.path, lines(list.unreadable))})
	}
	if len(list.links) > 0 {
		all = append(all, Problem{Part: "denied", Minor: true, Err: fmt.Errorf("%s has more than a CID in %s, perhaps a key; the CID is enough", d.path, lines(list.links))})
	}
	return all
}

// maxNamed bounds the lines that one message names.
const maxNamed = 10

func lines(numbers []int) string {
	word, more := "line", ""
	if len(numbers) > 1 {
		word = "lines"
	}
	if len(numbers) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(numbers)-maxNamed)
		numbers = numbers[:maxNamed]
	}
	return word + " " + strings.Trim(fmt.Sprint(numbers), "[]") + more
}

// uncomment returns a line without its comment: the rest after a # at the beginning, or after white
// space. The # of a link follows its CID.
func uncomment(line string) string {
	for n := 0; ; n++ {
		i := strings.IndexByte(line[n:], '#')
		if i < 0 {
			return strings.TrimSpace(line)
		}
		if n += i; n == 0 || line[n-1] == ' ' || line[n-1] == '\t' {
			return strings.TrimSpace(line[:n])
		}
	}
}

// lineEnds makes all line ends those of Unix. Else a comment would hide the lines after it.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func parseDenied(text string) denied {
	d := denied{cids: make(map[cid.Cid]bool)}
	rows := strings.Split(lineEnds.Replace(text), "\n")
	for i := 0; i < len(rows); {
		n := entryRows(rows[i:])
		d.add(i+1, strings.Join(rows[i:i+n], "\n"))
		i += n
	}
	return d
}

// add reads one entry, which begins in this line.
func (d *denied) add(line int, entry string) {
	wrapped := strings.Contains(entry, "\n")
	if !wrapped {
		entry = uncomment(strings.TrimPrefix(entry, "\ufeff")) // QUIRK: Windows' Notepad writes a byte order mark
	}
	if entry == "" {
		return
	}
	found := link.FindCIDs(entry)
	for _, c := range found {
		d.cids[c] = true
	}
	if len(found) == 0 {
		d.unreadable = append(d.unreadable, line)
	} else if wrapped || link.HasFragment(entry) {
		d.links = append(d.links, line)
	}
}

// maxWrapped bounds the lines over which a mail program wraps a link of 120 characters.
const maxWrapped = 4

// entryRows returns how many rows the entry takes that begins with the first one: several if a link
// was pasted as it stood in a mail, wrapped.
func entryRows(rows []string) int {
	if !strings.Contains(rows[0], "://") {
		return 1
	}
	first := strings.TrimSuffix(rows[0], "=") // quoted-printable's mark of a wrapped line
	if _, err := link.Parse(first); !errors.Is(err, link.ErrIncomplete) {
		return 1
	}
	cut := len(link.FindCIDs(rows[0])) == 0
	for n := 2; n <= min(maxWrapped, len(rows)); n++ {
		if strings.Contains(rows[n-1], "://") || len(link.FindCIDs(rows[n-1])) > 0 {
			break // the row is an entry of its own
		}
		whole := strings.Join(rows[:n], "\n")
		if _, err := link.Parse(whole); err == nil || cut && len(link.FindCIDs(whole)) > 0 {
			return n
		}
	}
	return 1
}
