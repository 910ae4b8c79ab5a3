package ledger

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// Digest is the part in which the CIDs of objects differ.
type Digest [32]byte

// DigestOf returns the Digest of an object's CID. ok is false for CIDs of other forms.
func DigestOf(c cid.Cid) (Digest, bool) {
	d, ok := strings.CutPrefix(c.KeyString(), objectPrefix)
	if !ok || len(d) != len(Digest{}) {
		return Digest{}, false
	}
	return Digest([]byte(d)), true
}

// objectPrefix begins the bytes of an object's CID: version 1, dag-pb, sha2-256, 32 bytes.
const objectPrefix = "\x01\x70\x12\x20"

// Entry is an object in the ledger.
type Entry struct {
	CID, Core cid.Cid
	KID       crypto.KID
	Epoch     crypto.Epoch // whose end is the object's: that of KID, unless the object was extended
	Size      int64        // of the attachment, in bytes
	Created   time.Time    // zero: unknown, as fsck has no key to read it
	Mail      string       // the same for all objects of a mail: 16 random hex digits; "": unknown
	Kind      Kind
	Gone      bool // the object was deleted; only [Ledger.AllWithGone] returns such entries
}

// EndEpoch returns the epoch whose end is the object's, also of an entry without Epoch. The entry
// stands in that epoch's file.
func (e Entry) EndEpoch() crypto.Epoch { return cmp.Or(e.Epoch, e.KID.Epoch) }

// Kind says what an object is to the people who get its link.
type Kind string

// The kinds of objects. A line that fsck made has none.
const (
	KindFile     Kind = "file"
	KindList     Kind = "list"     // of the files of a mail
	KindOriginal Kind = "original" // what a restored mail needs besides its files
)

// jsonLine has no end: the name of the epoch says it.
type jsonLine struct {
	CID     string     `json:"cid"`
	Core    string     `json:"core,omitempty"`
	Size    int64      `json:"size,omitempty"`
	Created *time.Time `json:"created,omitempty"`
	Mail    string     `json:"mail,omitempty"`
	Kind    Kind       `json:"kind,omitempty"`
	Mode    string     `json:"mode,omitempty"` // "link" or absent
	// From is the epoch in which an extended object was stored: that of its kid.
	From crypto.Epoch `json:"from,omitempty"`
	// Gone takes back the lines before that have this CID. Only CID is there besides.
	Gone bool `json:"gone,omitempty"`

	core cid.Cid // Core, parsed
}

const modeLink = "link"

func lineOf(e Entry) jsonLine {
	l := jsonLine{CID: e.CID.String(), Core: e.Core.String(), Size: e.Size, Mail: e.Mail, Kind: e.Kind}
	if !e.Created.IsZero() {
		l.Created = &e.Created
	}
	if e.KID.Link {
		l.Mode = modeLink
	}
	if e.EndEpoch() != e.KID.Epoch {
		l.From = e.KID.Epoch
	}
	return l
}

// entry returns what the line of an object says.
func (l jsonLine) entry(c cid.Cid, e crypto.Epoch) Entry {
	kid := crypto.KID{Epoch: cmp.Or(l.From, e), Link: l.Mode == modeLink}
	entry := Entry{CID: c, Core: l.core, KID: kid, Epoch: e, Size: l.Size, Mail: l.Mail, Kind: l.Kind}
	if l.Created != nil {
		entry.Created = *l.Created
	}
	return entry
}

// parseLine returns a line and its CID, or false for a malformed line: it belongs to a mail that was
// not passed on.
func parseLine(text []byte) (line jsonLine, c cid.Cid, ok bool) {
	if json.Unmarshal(text, &line) != nil || line.Size < 0 {
		return line, c, false
	}
	c, err := link.ParseCID(line.CID)
	if err == nil && !line.Gone {
		line.core, err = link.ParseCID(line.Core)
	}
	if err == nil && line.From != "" {
		_, err = crypto.ParseEpoch(string(line.From))
	}
	return line, c, err == nil
}

// endsBefore reports whether an epoch ends before another one.
func endsBefore(e, other crypto.Epoch) bool {
	if e == other || e.End().IsZero() {
		return false
	}
	return other.End().IsZero() || e.End().Before(other.End())
}
