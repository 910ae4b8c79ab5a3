package gateway

import "net/http"

const (
	noStore = "private, no-store"
	// fileCache also forbids proxies to recompress a download: its ETag and ranges would lie.
	fileCache = "private, no-store, no-transform"

	// sandboxCSP is for everything but our pages: if a browser ever renders it, then in an origin
	// of its own, without scripts.
	sandboxCSP = "default-src 'none'; sandbox; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	// pageCSP allows the two inline blocks whose hashes are filled in, the favicon, our form, a
	// frame of ours, and fetching a file list.
	pageCSP = "default-src 'none'; script-src %s; style-src %s; img-src data:; connect-src 'self'; worker-src 'self'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
	// workerCSP lets the service worker fetch ciphertext from here, and nothing else.
	workerCSP = "default-src 'none'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

// secure sets the headers of every answer: the gateway serves what strangers sent.
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

// describesBody are the headers that belong to a file, and not to the error page in its place.
var describesBody = []string{
	"Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "Content-Type", "Etag", "X-Ipfs-Path", "X-Ipfs-Roots",
}
