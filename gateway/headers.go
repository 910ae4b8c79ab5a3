package gateway

import (
	"net/http"
	"net/url"
	"regexp"
)

const (
	noStore = "private, no-store"
	// fileCache also forbids proxies to recompress a download, which would break ETag and ranges.
	fileCache = "private, no-store, no-transform"

	// sandboxCSP is for all answers but our pages: rendered, they have no origin and no scripts.
	sandboxCSP = "default-src 'none'; sandbox; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	// pageCSP allows two inline blocks, data: images, and our worker, frames, forms and fetches.
	pageCSP = "default-src 'none'; script-src %s; style-src %s; img-src data:; connect-src 'self'; worker-src 'self'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	// workerCSP lets the service worker fetch from the gateway only.
	workerCSP = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

// secure sets the headers of every answer, since the gateway serves content from strangers.
func secure(h http.Header) {
	h.Set("Cache-Control", noStore)
	h.Set("Content-Security-Policy", sandboxCSP)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "interest-cohort=(), browsing-topics=()")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex, nofollow, noarchive")
}

// describesBody lists the headers of a file that an error page must not have.
var describesBody = []string{
	"Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "Content-Type", "Etag", "X-Ipfs-Path", "X-Ipfs-Roots",
}

var (
	inPath = regexp.MustCompile(`bafybei[a-z2-7]{52}`)
	// likeKey matches what may be a fragment: 32 bytes in multibase have 33 to 45 characters.
	likeKey = regexp.MustCompile(`z[1-9A-HJ-NP-Za-km-z]{32}`)
)

// hasKey reports whether the address may have a key in it. Scanners and trackers move fragments
// into the path and into the query. CIDs are not keys, but may look like keys.
func hasKey(u *url.URL) bool {
	query, err := url.QueryUnescape(u.RawQuery)
	return err != nil || likeKey.MatchString(inPath.ReplaceAllString(u.Path+"?"+query, ""))
}
