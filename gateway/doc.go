// Package gateway gives stored files to those who hold their link, over HTTP. Its invariant:
//
//	Reading changes nothing, no secret is written down, and what is given out is either right
//	to the last byte or visibly broken.
//
// The key to a file stands in the fragment of its link, and a browser keeps that part to itself.
// So the life of a download is:
//
//	GET  /CID                the page: size and dates, which the server knows, and for its script
//	                         the share and the sealed metadata, so that with the fragment the
//	                         browser opens the file's name. Scanners and previews may look: no
//	                         request but a POST sees a key, and none of them uses anything up.
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
// which asks for the ciphertext, verifies every block and decrypts it, and answers the browser's
// own download. Then no key ever comes here.
//
//	GET  /w/worker.js        the worker; the addresses below /w/ are its own, in the browser
//
// All of a mail's files have such a page as well, /CID/all, by the list of them, which is an object
// itself. Its download is one ZIP, put together while it is sent ([gateway.archive]).
//
// The link in a mail's Detach-Restore field leads to such a page too. Its download is the whole
// original message, put together while it is sent ([gateway.original]).
//
// Those who decrypt themselves take the share, and the ciphertext, which any cache may hold:
//
//	GET  /CID/share
//	GET  /CID/data, /CID/meta.jwe
//	GET  /CID/all.json               the three of a list of files, for the script of a page
//	GET  /ipfs/CID?format=raw|car
//
// Only objects of this installation's ledger are served, in whatever form.
//
// Every handler returns an error, and one place ([gateway.fail]) turns it into a status, a page
// and a log line. Every answer passes through one ResponseWriter ([response]), which sets the
// headers, moves the deadlines and keeps a status back until the store has given the first byte.
package gateway
