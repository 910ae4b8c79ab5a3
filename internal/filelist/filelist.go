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
	// Type is the media type of a stored list. No attachment may have it.
	Type = "application/vnd.detach.files"
	// Name is the name of the ZIP of all files.
	Name = "files.zip"

	// MinFiles is the smallest number of files in a list. A mail with one file gets no list.
	MinFiles = 2
	// MaxFiles is more files than people attach. The gateway looks for each file of a list before
	// it sends the ZIP.
	MaxFiles = 1000
	// MaxSize bounds the JSON in bytes. Gateways and browsers read it whole.
	MaxSize = 1 << 20

	version = 1
	// maxFile is larger than any file, in bytes. Sums of MaxFiles sizes do not overflow.
	maxFile = 1 << 40
)

var (
	// ErrInvalid says that this is not a file list.
	ErrInvalid = errors.New("not a valid file list")
	// ErrTooMany says that there are more than MaxFiles files, or their list exceeds MaxSize.
	ErrTooMany = errors.New("too many files for a file list")

	errForm = errors.New("malformed") // the decoder's error is not returned: it may quote a link
)

// A List has the files of one mail, in the order of the mail.
type List struct {
	Version int   `json:"version"`
	Files   files `json:"files"`
}

// A File is one file of a list.
type File struct {
	Link link.Link
	Name string // what the sender wrote
	Type string // the media type that the sender wrote
	Size int64
	// CRC32 (IEEE) stands in a ZIP before the file. It authenticates nothing; the CIDs do.
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

// Marshal returns the list of these files, of which there must be two or more, in the form that is
// stored. It returns ErrTooMany if Read would refuse the list.
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
		return nil, fmt.Errorf("file list: %w", err)
	}
	if len(b) > MaxSize {
		return nil, ErrTooMany
	}
	return b, nil
}

// Read reads a list to its end and checks it. It returns ErrInvalid if the list is malformed, or
// the error of r.
func Read(r io.Reader) (List, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return List{}, fmt.Errorf("read file list: %w", err)
	}
	var l List
	if len(b) > MaxSize || json.Unmarshal(b, &l) != nil {
		err = errForm
	} else {
		err = l.check()
	}
	if err != nil {
		return List{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return l, nil
}

// check checks the list as a whole. UnmarshalJSON has checked each file.
func (l *List) check() error {
	if l.Version != version {
		return fmt.Errorf("version %d; only %d is known", l.Version, version)
	}
	if len(l.Files) < MinFiles || len(l.Files) > MaxFiles {
		return fmt.Errorf("%d files; a list has %d to %d", len(l.Files), MinFiles, MaxFiles)
	}
	seen := make(map[cid.Cid]bool, len(l.Files))
	for _, f := range l.Files {
		// Every attachment is a separate object. A small list that names a large file many times
		// would make an endless ZIP.
		if seen[f.Link.CID] {
			return errors.New("the same file twice")
		}
		seen[f.Link.CID] = true
		if f.Link.Base != l.Files[0].Link.Base {
			return errors.New("files of several gateways")
		}
	}
	return nil
}

// ZIP returns the archive of these files, each under a unique name that any system can save. All
// have the date modified. open opens a file by its index.
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

// files is decoded one file at a time, so that never more than MaxFiles are in memory.
type files []File

// UnmarshalJSON implements json.Unmarshaler.
func (fs *files) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errForm
	}
	for dec.More() {
		var f File
		if len(*fs) == MaxFiles || dec.Decode(&f) != nil {
			return errForm
		}
		*fs = append(*fs, f)
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (f File) MarshalJSON() ([]byte, error) {
	return json.Marshal(fileJSON{f.Link.URL(), f.Name, f.Type, f.Size, fmt.Sprintf("%08x", f.CRC32)})
}

// UnmarshalJSON accepts what MarshalJSON writes. It ignores members that it does not know: later
// versions may have them.
func (f *File) UnmarshalJSON(b []byte) error {
	var w fileJSON
	if json.Unmarshal(b, &w) != nil {
		return errForm
	}
	l, err := link.ParseExact(w.Link)
	if err != nil {
		return errForm
	}
	sum, err := strconv.ParseUint(w.CRC32, 16, 32)
	if err != nil || fmt.Sprintf("%08x", sum) != w.CRC32 || w.Size == 0 && sum != 0 {
		return errForm
	}
	if w.Size < 0 || w.Size > maxFile || len(w.Name) > filename.MaxText || len(w.Type) > filename.MaxText {
		return errForm
	}
	*f = File{l, w.Name, w.Type, w.Size, uint32(sum)}
	return nil
}
