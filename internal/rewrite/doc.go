// Package rewrite takes the attachments out of a mail and leaves links.
//
// The invariant: bytes that are not replaced are the bytes that were received,
// and what is replaced can be put back byte for byte. A mail with nothing to
// detach is not parsed and written again but copied, so every signature over it
// holds; and a part that is not understood, or not surely, is left alone.
//
// One mail's way, in the order of the files:
//
//   - message.go: Read takes the header, and Passes says whether it alone shows
//     that nothing can be detached. If not, Detach reads the mail to its end.
//   - scanner.go cuts it into content and delimiter lines, at any size of reads;
//     walk.go follows the tree of parts; decide.go is the table of what is
//     detached and what is kept.
//   - attachment.go streams one attachment away while it arrives, decoded by
//     transfer.go, which remembers how it was laid out.
//   - What is kept lies in a spool (package spool), exactly as received. The mail is
//     the spool with the detached bodies put back at their places (restore.go);
//     the rewritten mail is the spool with a few edits (compose.go): parts that
//     went, the notice, one header field.
//   - manifest.go stores the list of the mail's files, if they are several.
//   - notice.go says the notice, in a language of languages/ (language.go);
//     place.go and placehtml.go find its place in a text, which insert.go puts it
//     into through its charset and transfer encoding (charset.go, transport.go).
package rewrite
