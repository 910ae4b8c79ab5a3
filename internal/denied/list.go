package denied

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// List is the file of revoked objects. It is safe for concurrent use. A line is a ruling that detach
// revoke wrote:
//
//	CID CORE EPOCH deny|undo TIME
//
// or what an operator wrote: a CID or a link, perhaps wrapped, which denies the object until the line
// is taken out. # begins a comment. Among the rulings on an object the latest holds, and of two with
// the same time the one that denies. So the lists of several machines are merged by putting one at
// the end of the other.
//
// Every lookup reads the file again if it has changed, so an entry takes effect immediately in every
// process. Only the CIDs are kept in memory: a pasted link holds a key.
//
// A line without a CID revokes nothing and is reported. It stops neither the gateway nor the mail,
// and the other lines count. A ruling that is malformed in any way denies the CIDs in it. If a crash
// cut it short, the next command for the object takes it out: see [List.Mend].
type List struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	failing bool // the last lookup could not read the file
	read    bool // the fields below are those of a file; false: there was none
	stamp   durable.Stamp
	settled bool // stamp would show a change
	sum     [sha256.Size]byte
	size    int // of the text, in bytes
	list    Content
}

// Content is what a deny list says. Lines are numbered from 1.
type Content struct {
	rulings    map[cid.Cid]Ruling
	written    map[cid.Cid][]int // the lines in which an operator wrote the CID
	unreadable []int             // lines in which there is no CID
	links      []int             // lines that hold more than a CID, perhaps the key of the file
	cut        []int             // rulings that a crash cut short
}

// Ruling is the latest that detach revoke said about an object.
type Ruling struct {
	Core  cid.Cid
	Epoch crypto.Epoch
	Undo  bool
	At    time.Time
}

// beats reports whether r holds and not other: it is later, or denies at the same time.
func (r Ruling) beats(other Ruling) bool {
	return r.At.After(other.At) || r.At.Equal(other.At) && !r.Undo
}

func (r Ruling) line(c cid.Cid) string {
	verdict := rulingDeny
	if r.Undo {
		verdict = rulingUndo
	}
	return strings.Join([]string{c.String(), r.Core.String(), string(r.Epoch), verdict, r.At.UTC().Format(time.RFC3339Nano)}, " ") + "\n"
}

// Has reports whether the list denies an object.
func (d Content) Has(c cid.Cid) bool {
	r, ok := d.rulings[c]
	return ok && !r.Undo || len(d.written[c]) > 0
}

// Ruling returns the ruling that holds for an object, or false if there is none.
func (d Content) Ruling(c cid.Cid) (Ruling, bool) {
	r, ok := d.rulings[c]
	return r, ok
}

// Rulings returns all objects that have a ruling, in no order.
func (d Content) Rulings() iter.Seq2[cid.Cid, Ruling] { return maps.All(d.rulings) }

// Lines returns the lines in which an operator wrote the CID.
func (d Content) Lines(c cid.Cid) []int { return d.written[c] }

// New returns the deny list at path, which need not exist. Lines that the operator should correct
// are logged.
func New(path string, log *slog.Logger) *List {
	return &List{path: path, log: log}
}

// Path returns where the list is, for the operator.
func (d *List) Path() string { return d.path }

// Has reports whether an object is revoked. While the file exists and cannot be read, every object
// may be revoked, and Has returns an error.
func (d *List) Has(c cid.Cid) (bool, error) {
	list, err := d.Content()
	return list.Has(c), err
}

// Content returns what the file says now. Later changes of the file do not change it.
func (d *List) Content() (Content, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.reload()
	if errors.Is(err, fs.ErrNotExist) && !isSymlink(d.path) {
		d.read, d.list, err = false, Content{}, nil
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
	return Content{}, err
}

// isSymlink reports whether there is a symbolic link at path. One that leads nowhere is no missing
// list: its file system may not be mounted.
func isSymlink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// reload reads the file if it has changed.
func (d *List) reload() error {
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
	sum := sha256.Sum256(text)
	if d.read && sum == d.sum {
		return nil
	}
	list, ok := d.extended(text)
	if !ok {
		list = parseDenied(string(text))
		list.report(d.log)
	}
	d.read, d.sum, d.size, d.list = true, sum, len(text), list
	return nil
}

// extended returns what the file says if only rulings were added to what was read before. So a
// revocation takes effect quickly in a long list.
func (d *List) extended(text []byte) (Content, bool) {
	if !d.read || d.size == 0 || len(text) < d.size || text[d.size-1] != '\n' || sha256.Sum256(text[:d.size]) != d.sum {
		return Content{}, false
	}
	list := d.list
	list.rulings = maps.Clone(list.rulings) // others may be reading it
	for row := range strings.SplitSeq(string(text[d.size:]), "\n") {
		if row != "" && !list.rule(row) {
			return Content{}, false
		}
	}
	return list, true
}

func (d *Content) report(log *slog.Logger) {
	reportLines(log, "a line of the deny list revokes nothing: there is no CID in it", d.unreadable)
	reportLines(log, "a line of the deny list has more than a CID, perhaps a key; the CID is enough", d.links)
	reportLines(log, "a line of the deny list was cut short by a crash; it denies its CID until detach revoke is run again", d.cut)
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

// Problem is what the operator should correct in a list.
type Problem struct {
	Err   error // one line: what is wrong, and what to do
	Minor bool  // everything works all the same
}

// Problems returns one problem for each kind of line that the operator should correct.
func (d *List) Problems() (all []Problem) {
	list, err := d.Content()
	if err != nil {
		return []Problem{{Err: err}}
	}
	if len(list.unreadable) > 0 {
		all = append(all, Problem{Err: fmt.Errorf("%s has no CID in %s, so nothing is revoked there; write the CID that is in the link", d.path, lines(list.unreadable))})
	}
	if len(list.links) > 0 {
		all = append(all, Problem{Minor: true, Err: fmt.Errorf("%s has more than a CID in %s, perhaps a key; the CID is enough", d.path, lines(list.links))})
	}
	if len(list.cut) > 0 {
		all = append(all, Problem{Err: fmt.Errorf("%s was cut short by a crash in %s, which denies the file until you run detach revoke again, with --undo or without", d.path, lines(list.cut))})
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

// ReadLinks returns the objects that a text names, each once, and the numbers of the lines in which
// there is no CID. It reads what the deny list reads: CIDs and links, also wrapped,
// and comments.
func ReadLinks(text string) (cids []cid.Cid, unreadable []int) {
	list := parseDenied(text)
	all := make(map[cid.Cid]bool)
	for c := range list.rulings {
		all[c] = true
	}
	for c := range list.written {
		all[c] = true
	}
	return sortedCIDs(all), list.unreadable
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

func parseDenied(text string) Content {
	d := Content{rulings: make(map[cid.Cid]Ruling), written: make(map[cid.Cid][]int)}
	rows := strings.Split(lineEnds.Replace(text), "\n")
	for i := 0; i < len(rows); {
		n := entryRows(rows[i:])
		d.add(i+1, strings.Join(rows[i:i+n], "\n"))
		i += n
	}
	return d
}

// add reads one entry, which begins in this line.
func (d *Content) add(line int, entry string) {
	wrapped := strings.Contains(entry, "\n")
	if !wrapped {
		entry = uncomment(strings.TrimPrefix(entry, "\ufeff")) // QUIRK: Windows' Notepad writes a byte order mark
	}
	if entry == "" || !wrapped && d.rule(entry) {
		return
	}
	found := link.FindCIDs(entry)
	for _, c := range found {
		if at := d.written[c]; len(at) == 0 || at[len(at)-1] != line {
			d.written[c] = append(at, line)
		}
	}
	if _, cut := cutRuling(entry); cut {
		d.cut = append(d.cut, line)
	} else if len(found) == 0 {
		d.unreadable = append(d.unreadable, line)
	} else if wrapped || link.HasFragment(entry) {
		d.links = append(d.links, line)
	}
}

const (
	rulingDeny = "deny"
	rulingUndo = "undo"
)

// rule takes an entry that detach revoke wrote, and reports whether it is one.
func (d *Content) rule(entry string) bool {
	c, next, ok := parseRuling(entry)
	if !ok {
		return false
	}
	if old, known := d.rulings[c]; !known || next.beats(old) {
		d.rulings[c] = next
	}
	return true
}

func parseRuling(entry string) (c cid.Cid, r Ruling, ok bool) {
	fields := strings.Fields(entry)
	if len(fields) != 5 || fields[3] != rulingDeny && fields[3] != rulingUndo {
		return c, r, false
	}
	c, err := link.ParseCID(fields[0])
	core, coreErr := link.ParseCID(fields[1])
	epoch, epochErr := crypto.ParseEpoch(fields[2])
	at, timeErr := time.Parse(time.RFC3339, fields[4])
	// The text of the file, which may hold keys, must not stay in memory.
	r = Ruling{core, crypto.Epoch(strings.Clone(string(epoch))), fields[3] == rulingUndo, at.UTC()}
	return c, r, err == nil && coreErr == nil && epochErr == nil && timeErr == nil
}

// Append writes rulings, each later than the one that holds for its object: a file whose revocation
// was undone in the same moment, or by a machine whose clock is slow, must not stay denied. It
// returns when they are on disk.
func (d *List) Append(rulings map[cid.Cid]Ruling) error {
	list, err := d.Content()
	if err != nil {
		return err
	}
	var text strings.Builder
	for c, r := range rulings {
		if old, ok := list.rulings[c]; ok && !r.At.After(old.At) {
			r.At = old.At.Add(time.Nanosecond)
		}
		text.WriteString(r.line(c))
	}
	return d.write(text.String())
}

// write appends lines, and returns when they are on disk.
func (d *List) write(text string) error {
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write the deny list: %w", err)
	}
	err = errors.Join(durable.AppendSynced(f, []byte(text)), f.Close(), durable.SyncDir(filepath.Dir(d.path)))
	if err != nil {
		return fmt.Errorf("write the deny list: %w", err)
	}
	return nil
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
