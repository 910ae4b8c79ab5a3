package link

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

var (
	// ErrIncomplete: the beginning of a link, whose end was lost on the way.
	ErrIncomplete = crypto.ErrFragmentIncomplete
	// ErrInvalid: not a link of this kind.
	ErrInvalid = errors.New("not a link to a detached file")
)

// Link names a stored object and carries the recipient's part of its key.
type Link struct {
	Base     string // as ParseBase returns it
	CID      cid.Cid
	Fragment crypto.Fragment
	// All says that the object is the list of a mail's files. It is for whoever sees the link: what an
	// object is, its metadata says.
	All bool
}

// all is what a link to all files has after its CID.
const all = "/all"

// URL returns the link as it stands in a mail.
func (l Link) URL() string {
	s := l.Base + "/" + l.CID.String()
	if l.All {
		s += all
	}
	return s + "#" + l.Fragment.Encode()
}

const redacted = "[redacted]"

// Format, and not only String: it alone answers every verb of fmt.
func (l Link) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (l Link) String() string               { return redacted }
func (l Link) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (l Link) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// baseForm has no character that anything on a link's way would encode: unreserved ones of
// RFC 3986 section 2.3 alone, in a host name, IPv4 or IPv6 literal, a port, and the prefix.
var baseForm = regexp.MustCompile(`^((?i)https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)((?:/[A-Za-z0-9._~-]+)*)/?$`)

// ParseBase reads what links begin with: scheme and host in any case, an optional path prefix,
// an optional slash at the end. No error quotes s.
func ParseBase(s string) (string, error) {
	m := baseForm.FindStringSubmatch(s)
	if m == nil {
		return "", errors.New(`not of the form https://HOST[:PORT][/PREFIX]`)
	}
	for segment := range strings.SplitSeq(m[2], "/") {
		if segment == "." || segment == ".." { // a browser would remove it (RFC 3986 section 5.2.4)
			return "", errors.New(`its path has a segment "." or ".."`)
		}
	}
	return strings.ToLower(m[1]) + m[2], nil
}

// cidLength is that of "b" and 36 bytes in base32.
const cidLength = 59

// ParseCID accepts the one form of CID that names an object of ours: version 1, dag-pb,
// sha2-256, in lower-case base32. Other forms may name the same block or another kind of
// content, and neither the ledger nor a path should know a thing by two names.
func ParseCID(s string) (cid.Cid, error) {
	if len(s) != cidLength || s[0] != 'b' {
		return cid.Undef, ErrInvalid
	}
	c, err := cid.Decode(s)
	if err != nil || c.Prefix() != objectPrefix || c.String() != s {
		return cid.Undef, ErrInvalid
	}
	return c, nil
}

var objectPrefix = cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: 0x12 /* sha2-256 */, MhLength: 32}
