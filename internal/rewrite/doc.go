// Package rewrite takes the attachments out of a mail and leaves links.
//
// The invariant: all bytes of the result are as received, except for replaced ones, and those can
// be restored exactly. A mail with nothing to detach is copied, not parsed and written again, so
// all its signatures remain valid. A part that cannot be decoded with certainty stays.
//
// One mail passes through the files in this order:
//
//   - message.go: Read takes the header, and Passes reports whether it alone shows that nothing can
//     be detached. If not, Detach reads the mail to its end. WriteTo writes the result, whole;
//     HeaderChanges and WriteBodyTo give it in parts.
//   - scanner.go cuts the mail into content and delimiter lines, for any sizes of reads. walk.go
//     follows the tree of parts (tree.go); decide.go is the table of what is detached, from a
//     part's header (header.go, alike.go), its file name (filename.go, params.go, words.go,
//     hints.go), the parts beside it, and the texts' references to it (references.go, package
//     reference).
//   - attachment.go streams one attachment away while it arrives. Package transfer decodes it and
//     records its layout, and cuts.go lists the removed attachments. A spool keeps all other bytes,
//     as received.
//   - At the end of the mail, tree.go overrules a decision if a later part shows that a file must
//     stay: the file is read back from the store and deleted there.
//   - spot.go says which texts take the notice. compose.go finds the edits of the spool that make
//     the rewritten mail: removed parts, the notice (package notice) in the texts, changes of the
//     header. It stores the mail's file list and its skeleton, from which the received mail can be
//     restored. lone.go puts a part that is all that is left of a multipart/mixed into the
//     multipart's place.
package rewrite
