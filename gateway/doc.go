// Package gateway serves stored files over HTTP to clients that have their link. Its invariant:
//
//	Reading changes nothing, no secret is written to disk, and every answer is either right to
//	the last byte or visibly broken.
//
// The key to a file is in the fragment of its link, which a browser does not send. A download is:
//
//	GET  /CID                the page: size, dates and the sealed metadata, from which the page's
//	                         script reads the file's name with the fragment and the share.
//	                         Scanners may fetch it: it has no key, and a GET uses nothing up.
//	GET  /CID/share          the share, for the proof of the fragment in Authorization, which does
//	                         not tell the fragment (sealed.go)
//	POST /CID                the button, with the fragment in a form. The gateway proves the key
//	                         right by opening the metadata, and answers with a 303 to the ticket.
//	GET  /CID/t/TICKET/NAME  the file, decrypted while it is sent. The ticket is the sealed
//	                         fragment. The gateway keeps no state, so a broken download resumes
//	                         after a restart, or on another gateway with the same keyring.
//	GET  /CID/v/TICKET       the same file, shown in a frame without an origin, if its first bytes
//	                         are of a kind that cannot run ([viewer.Viewer.Show]). Only a page's
//	                         frame gets it, never a tab of its own.
//	GET  /viewer/VERSION/…   PDF.js, which draws PDF files in that frame ([viewer.Viewer])
//
// The browser can also decrypt, without giving the gateway a key: the page's script passes the key
// to a service worker (web/worker.js), which fetches the ciphertext, verifies and decrypts every
// block, and answers the browser's download.
//
//	GET  /w/worker.js        the worker, which answers the other addresses below /w/
//
// A mail's file list is an object too. Its page is /CID/all, and its download is a ZIP of the
// files, made while it is sent (archive.go). The link in a mail's Detach-Restore field leads to the
// page of the original message, which is also made while it is sent (original.go).
//
// Programs that decrypt themselves fetch the share too, and the ciphertext, which any cache may
// hold:
//
//	GET  /CID/data, /CID/meta.jwe, /CID/origin
//	GET  /ipfs/CID?format=raw|car
//
// Handlers return an error, which [gateway.fail] turns into a status, a page and a log line. Every
// answer passes through one ResponseWriter ([response]), which sets the headers, moves the
// deadlines and keeps a status back until the store has given the first byte.
package gateway
