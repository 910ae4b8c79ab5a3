// Package gateway gives stored files to those who hold their link, over HTTP. Its invariant:
//
//	Reading changes nothing, no secret is written down, and what is given out is either right
//	to the last byte or visibly broken.
//
// The key to a file stands in the fragment of its link, which a browser does not send. So the life
// of a download is:
//
//	GET  /CID                the page: size and dates, which the server knows, and the share and
//	                         the sealed metadata, from which the page's script opens the file's
//	                         name with the fragment. Scanners and previews may look: only a POST
//	                         carries a key, and nothing is used up.
//	POST /CID                the button, with the fragment in a form: the metadata is opened,
//	                         which proves the key right, and the answer is a 303 to
//	GET  /CID/t/TICKET/NAME  the file, decrypted while it is sent. The ticket is the fragment,
//	                         sealed: there is no state here, so a broken download resumes after a
//	                         restart, or on another gateway that has the same keyring.
//	GET  /CID/v/TICKET       the same file to look at, in a frame without an origin, if its bytes
//	                         say that it is of a kind that cannot run ([viewer.Viewer.Show]).
//	GET  /viewer/VERSION/…   PDF.js, which draws PDF files in that frame ([viewer.Viewer])
//
// Or the browser decrypts: the page's script hands the key to a service worker (web/worker.js),
// which fetches the ciphertext, verifies every block, decrypts it, and answers the browser's own
// download. Then the gateway never receives a key.
//
//	GET  /w/worker.js        the worker; it answers for the addresses below /w/ itself
//
// A mail's file list is an object too. Its page is /CID/all, and its download is one ZIP of the
// files, put together while it is sent (archive.go). The link in a mail's Detach-Restore field
// leads to a page as well. Its download is the whole original message, put together while it is
// sent (original.go).
//
// Programs that decrypt themselves take the share, and the ciphertext, which any cache may hold:
//
//	GET  /CID/share
//	GET  /CID/data, /CID/meta.jwe
//	GET  /CID/all.json               all three of a file list, for the script of its page
//	GET  /ipfs/CID?format=raw|car
//
// One request opens its object once ([vault.Object]), and answers from that.
//
// Every handler returns an error, and one place ([gateway.fail]) turns it into a status, a page
// and a log line. Every answer passes through one ResponseWriter ([response]), which sets the
// headers, moves the deadlines and keeps a status back until the store has given the first byte.
package gateway
