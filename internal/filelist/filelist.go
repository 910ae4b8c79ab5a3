package filelist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/zipstream"
)

const (
	// Type is the media type by which a stored list is known. No attachment may carry it.
	Type = "application/vnd.detach.files"
	// Name is what all of the files are called as one.
	Name = "files.zip"

	// MinFiles: of a single file there is no list.
	MinFiles = 2
	// MaxFiles is more than people attach. Whoever asks for all of them makes the store look for each.
	MaxFiles = 1000
	// MaxSize bounds the JSON: it is read whole, by gateways and in browsers.
	MaxSize = 1 << 20

	version = 1
	// maxFile is more than any file, and sums of it do not overflow.
	maxFile = 1 << 40
)

var (
	// ErrInvalid: not a list of files.
	ErrInvalid = errors.New("not a valid list of files")
	// ErrTooMany: the files are more than a list may have, or take more room.
	ErrTooMany = errors.New("too many files for a list")

	errJSON = errors.New("not the JSON it should be") // and not the decoder's error, which may quote it
)

// A List is the files of one mail, in its order.
type List struct {
	Version int   `json:"version"`
	Files   files `json:"files"`
}

// A File is one of them.
type File struct {
	Link link.Link
	Name string // as the sender wrote it
	Type string // media type, the sender's as well
	Size int64
	// CRC32 is what a ZIP has to say of a file before its first byte. It authenticates nothing: the CIDs do.
	CRC32 uint32
}

// fileJSON is a File on the wire.
type fileJSON struct {
	Link  string `json:"link"`
	Name  string `json:"name"`
	Type  string `json:"type"`
	Size  int64  `json:"size"`
	CRC32 string `json:"crc32"`
}

// Marshal returns the list of these files, two or more, as it is stored; ErrTooMany if Read would not
// take it.
func Marshal(fs []File) ([]byte, error) {
	if len(fs) > MaxFiles {
		return nil, ErrTooMany
	}
	l := List{version, make(files, 0, len(fs))}
	for _, f := range fs {
		f.Name, f.Type = filename.Clip(f.Name), filename.Clip(f.Type)
		l.Files = append(l.Files, f)
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("list of files: %w", err)
	}
	if len(b) > MaxSize {
		return nil, ErrTooMany
	}
	return b, nil
}

// Read reads a list to its end and checks it.
func Read(r io.Reader) (List, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return List{}, fmt.Errorf("read list of files: %w", err)
	}
	var l List
	if err := l.parse(b); err != nil {
		return List{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return l, nil
}

func (l *List) parse(b []byte) error {
	if len(b) > MaxSize {
		return errors.New("too long")
	}
	if err := json.Unmarshal(b, l); err != nil {
		return errJSON
	}
	return l.check()
}

// check holds the list as a whole to its form; its files have theirs.
func (l *List) check() error {
	if l.Version != version {
		return fmt.Errorf("of version %d, and only %d is known", l.Version, version)
	}
	if len(l.Files) < MinFiles || len(l.Files) > MaxFiles {
		return fmt.Errorf("%d files", len(l.Files))
	}
	seen := make(map[cid.Cid]bool, len(l.Files))
	for _, f := range l.Files {
		// Every attachment is an object of its own. A small list that names a large one again and again would
		// make a ZIP without end.
		if seen[f.Link.CID] {
			return errors.New("a file twice")
		}
		seen[f.Link.CID] = true
		if f.Link.Base != l.Files[0].Link.Base {
			return errors.New("files of several gateways")
		}
	}
	return nil
}

// ZIP returns the archive of these files, each under a name of its own that can be saved. All have the
// date modified; open opens one of them by its index.
func ZIP(fs []File, modified time.Time, open zipstream.Open) *zipstream.Reader {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = filename.Clean(f.Name)
	}
	entries := make([]zipstream.Entry, len(fs))
	for i, name := range filename.Unique(names) {
		entries[i] = zipstream.Entry{Name: name, Size: fs[i].Size, CRC32: fs[i].CRC32}
	}
	return zipstream.New(entries, modified, open)
}

// files are unpacked one by one, so that no more of them are than may be.
type files []File

// UnmarshalJSON implements json.Unmarshaler.
func (fs *files) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errJSON
	}
	for dec.More() {
		var f File
		if len(*fs) == MaxFiles {
			return ErrTooMany
		}
		if err := dec.Decode(&f); err != nil {
			return err
		}
		*fs = append(*fs, f)
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (f File) MarshalJSON() ([]byte, error) {
	return json.Marshal(fileJSON{f.Link.URL(), f.Name, f.Type, f.Size, fmt.Sprintf("%08x", f.CRC32)})
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing else. Members it does not know are for later versions.
func (f *File) UnmarshalJSON(b []byte) error {
	var w fileJSON
	if err := json.Unmarshal(b, &w); err != nil {
		return errJSON
	}
	l, err := link.Parse(w.Link)
	if err != nil || l.All || l.URL() != w.Link {
		return errors.New("not the link to a file")
	}
	*f = File{Link: l, Name: w.Name, Type: w.Type, Size: w.Size}
	if f.CRC32, err = parseCRC(w.CRC32); err != nil {
		return err
	}
	if f.Size < 0 || f.Size > maxFile || len(f.Name) > filename.MaxText || len(f.Type) > filename.MaxText {
		return errors.New("a size out of range")
	}
	if f.Size == 0 && f.CRC32 != 0 {
		return errors.New("not the CRC-32 of an empty file")
	}
	return nil
}

func parseCRC(s string) (sum uint32, err error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if sum = uint32(n); err != nil || fmt.Sprintf("%08x", sum) != s {
		return 0, errors.New("not a CRC-32")
	}
	return sum, nil
}
