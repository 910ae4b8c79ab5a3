// Package rewrite takes the attachments out of a mail and leaves links.
//
// The invariant: bytes that are not replaced are the bytes that were received, and replaced bytes
// can be put back exactly. A mail with nothing to detach is copied, not parsed and written again,
// so every signature over it holds. A part that cannot be decoded with certainty is left alone.
//
// The way of one mail, in the order of the files:
//
//   - message.go: Read takes the header, and Passes reports whether it alone shows that nothing can
//     be detached. If not, Detach reads the mail to its end. WriteTo writes the result, whole;
//     HeaderChanges and WriteBodyTo give it in parts.
//   - scanner.go cuts the mail into content and delimiter lines, for any sizes of reads. walk.go
//     follows the tree of parts; decide.go is the table of what is detached, from a part's header
//     (header.go), its file name (filename.go), and the HTML's references to it (references.go).
//   - attachment.go streams one attachment away while it arrives. Package transfer decodes it and
//     records its layout, and cuts.go keeps what was cut out. The kept bytes lie in a spool, as
//     received.
//   - compose.go finds the edits of the spool that make the rewritten mail: parts that go, the
//     notice (package notice) in the texts, the header's changes. It stores the mail's file list
//     and its skeleton, from which the received mail can be restored.
package rewrite
