// Package link builds and parses the link that a mail carries, and this holds: what URL returns
// parses to the same link, also after mail programs and scanners have changed it.
//
//	https://HOST[/PREFIX]/CID#A        one file
//	https://HOST[/PREFIX]/CID/all#A    all files of a mail, by their file list
//
// CID names the object (base32), A is the recipient's fragment of the key (multibase base58btc).
// Both are letters and digits only, since scanners re-encode everything else. Browsers do not send
// the part after "#", so A reaches no server by itself.
//
// A link opens a file, so its text is as secret as a key: a [Link] prints as "[redacted]", and no
// error quotes its input.
package link
