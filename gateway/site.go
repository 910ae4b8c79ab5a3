package gateway

import (
	"net/url"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// site is where the gateway's addresses are.
type site struct {
	base   string // what links begin with, without a slash at its end
	host   string // as people know it from the link
	prefix string // the path of base: "", or "/prefix"
}

func newSite(base string) (site, error) {
	base, err := link.ParseBase(base)
	if err != nil {
		return site{}, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return site{}, err
	}
	return site{base, u.Host, u.Path}, nil
}

// below returns a request's path below the prefix. A reverse proxy may have removed the prefix
// already.
func (s site) below(path string) string {
	if rest, ok := strings.CutPrefix(path, s.prefix); ok && (rest == "" || rest[0] == '/') {
		return rest
	}
	return path
}

// path is the address of an object, and of what belongs to it: s.path(c, "/share").
func (s site) path(c cid.Cid, rest string) string { return s.prefix + "/" + c.String() + rest }

// page is the address of a page: of a file's, or of that of a mail's file list.
func (s site) page(c cid.Cid, list bool) string {
	if list {
		return s.path(c, "/all")
	}
	return s.path(c, "")
}

// parseKey reads what was posted: the fragment from the script, or a link, or a piece of one, from
// a person. c is the object of the page, undefined on the home page. A link to another file opens
// that file. The link's host does not matter: the gateway opens only what is in its own ledger.
func (s site) parseKey(text string, c cid.Cid) (cid.Cid, crypto.Fragment, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.Contains(text, "://"):
	case strings.Contains(text, "/"):
		text = "https://" + text // as some browsers copy it
	case !c.Defined():
		return c, crypto.Fragment{}, link.ErrIncomplete
	default:
		text = s.base + "/" + c.String() + "#" + strings.TrimPrefix(text, "#")
	}
	l, err := link.Parse(text)
	if err != nil {
		return c, crypto.Fragment{}, err
	}
	return l.CID, l.Fragment, nil
}
