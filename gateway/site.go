package gateway

import (
	"errors"
	"net/url"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// site makes and reads the gateway's addresses.
type site struct {
	base   string // begins every link; no slash at its end
	host   string // the host of base, shown on the pages
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

// below returns a request's path without the prefix, which a reverse proxy may have removed.
func (s site) below(path string) string {
	if rest, ok := strings.CutPrefix(path, s.prefix); ok && (rest == "" || rest[0] == '/') {
		return rest
	}
	return path
}

// path returns the address of an object, or with rest that of a part of it: s.path(c, "/share").
func (s site) path(c cid.Cid, rest string) string { return s.prefix + "/" + c.String() + rest }

// page returns the address of a file's page, or with list that of a file list's page.
func (s site) page(c cid.Cid, list bool) string {
	if list {
		return s.path(c, "/all")
	}
	return s.path(c, "")
}

// parseKey parses the posted text: a fragment from the script, or a link or a piece of one that a
// person pasted. c is the page's object, undefined on the home page. A link to another file opens
// that file. The link's host is ignored: the gateway opens only files in its own ledger.
func (s site) parseKey(text string, c cid.Cid) (cid.Cid, crypto.Fragment, error) {
	l, err := link.Parse(text)
	if errors.Is(err, link.ErrInvalid) && !strings.Contains(text, "://") {
		l, err = s.parsePiece(strings.TrimSpace(text), c)
	}
	if err != nil {
		return c, crypto.Fragment{}, err
	}
	return l.CID, l.Fragment, nil
}

// parsePiece parses a link without its scheme, or a fragment alone.
func (s site) parsePiece(text string, c cid.Cid) (link.Link, error) {
	switch {
	case strings.Contains(text, "/"):
		return link.Parse("https://" + text) // some browsers copy a link without its scheme
	case !c.Defined():
		return link.Link{}, link.ErrIncomplete
	}
	return link.Parse(s.base + "/" + c.String() + "#" + strings.TrimPrefix(text, "#"))
}
