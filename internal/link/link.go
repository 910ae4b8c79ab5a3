package link

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

var (
	// ErrIncomplete says that a text is the beginning of a link whose end was lost on the way.
	ErrIncomplete = crypto.ErrFragmentIncomplete
	// ErrInvalid says that a text is not a link to a file.
	ErrInvalid = errors.New("not a link to a detached file")
	// ErrReplaced is an ErrInvalid. It says that a text is a link to something else. Often a mail
	// system has put it in place of the one that was sent, and only that system knows the target.
	ErrReplaced = fmt.Errorf("%w, but to something else", ErrInvalid)
)

// Link names a stored object and carries the recipient's part of its key.
type Link struct {
	Base     string // what ParseBase returned
	CID      cid.Cid
	Fragment crypto.Fragment
	// All says that the object is a file list. It is a hint for people who read the link; the
	// metadata of the object decides.
	All bool
}

// all follows the CID in the link to a file list.
const all = "/all"

// URL returns the link as it stands in a mail.
func (l Link) URL() string {
	s := l.Base + "/" + l.CID.String()
	if l.All {
		s += all
	}
	return s + "#" + l.Fragment.Encode()
}

// Host returns the host that the link leads to, without a port.
func (l Link) Host() string {
	u, err := url.Parse(l.Base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

const redacted = "[redacted]"

// Format is needed beside String: only Format answers every verb of fmt.
func (l Link) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (l Link) String() string               { return redacted }
func (l Link) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (l Link) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// baseForm allows no character that a program on the way might encode: a host name, an IPv4 or IPv6
// literal, a port and the prefix, of the unreserved characters of RFC 3986 section 2.3.
var baseForm = regexp.MustCompile(`^((?i)https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)((?:/[A-Za-z0-9._~-]+)*)/?$`)

// ParseBase reads the beginning of links: scheme and host in any case, an optional path prefix, an
// optional slash at the end. It returns the base in the form that links have. No error quotes s.
func ParseBase(s string) (string, error) {
	m := baseForm.FindStringSubmatch(s)
	if m == nil {
		return "", errors.New(`not of the form https://HOST[:PORT][/PREFIX]`)
	}
	for segment := range strings.SplitSeq(m[2], "/") {
		if segment == "." || segment == ".." { // browsers remove these (RFC 3986 section 5.2.4)
			return "", errors.New(`its path has a segment "." or ".."`)
		}
	}
	return strings.ToLower(m[1]) + m[2], nil
}

// cidLength is the length of "b" and 36 bytes in base32.
const cidLength = 59

// ParseCID accepts the one form of CID that names an object: version 1, dag-pb, sha2-256, in
// lower-case base32. Other forms may name the same block or another kind of content, but in ledger
// and paths an object must have one name.
func ParseCID(s string) (cid.Cid, error) {
	if len(s) != cidLength || s[0] != 'b' {
		return cid.Undef, ErrInvalid
	}
	// Lists have hundreds of thousands of CIDs, and go-cid takes several times as long.
	raw, err := base32Lower.DecodeString(s[1:])
	if err != nil || !bytes.HasPrefix(raw, objectPrefix) || base32Lower.EncodeToString(raw) != s[1:] {
		return cid.Undef, ErrInvalid
	}
	return cid.NewCidV1(cid.DagProtobuf, raw[len(objectPrefix)-2:]), nil
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// objectPrefix begins the bytes of an object's CID: version 1, dag-pb, sha2-256, 32 bytes.
var objectPrefix = []byte{1, cid.DagProtobuf, multihash.SHA2_256, 32}
