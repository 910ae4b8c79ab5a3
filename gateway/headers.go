package gateway

import "net/http"

const (
	noStore = "private, no-store"
	// fileCache also forbids proxies to recompress a download: its ETag and ranges would lie.
	fileCache = "private, no-store, no-transform"

	// sandboxCSP is for everything that is not a page of ours: should a browser ever render it,
	// then in an origin of its own, without scripts.
	sandboxCSP = "default-src 'none'; sandbox; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	// pageCSP allows the two inline blocks whose hashes follow, the favicon, our form, a frame of ours, and
	// asking us for a list of files.
	pageCSP = "default-src 'none'; script-src %s; style-src %s; img-src data:; connect-src 'self'; worker-src 'self'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	// workerCSP is the service worker's own: it fetches ciphertext from here, and that is all.
	workerCSP = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

// secure sets what every answer has, of whatever status: the gateway serves what strangers sent.
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

// describesBody are the headers that belong to a file and not to the error sent in its stead.
var describesBody = []string{
	"Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "Content-Type", "Etag", "X-Ipfs-Path", "X-Ipfs-Roots",
}
