// Package link builds and parses the link that a mail carries, and this holds: a link made by
// URL parses to the same link, also after mail programs and scanners have been at it.
//
//	https://HOST[/PREFIX]/CID#A        one file
//	https://HOST[/PREFIX]/CID/all#A    all files of a mail, by the list of them
//
// CID names the object (base32), A is the recipient's fragment of the key (multibase
// base58btc). Both are letters and digits only: everything else in a link gets re-encoded on
// its way. Browsers do not send what follows "#", so A reaches no server by itself.
//
// A link opens a file, so its text is as secret as a key: a [Link] prints as "[redacted]" and
// no error here quotes its input.
package link
