// Package notice puts a notice into one of a mail's texts, in place of the attachments.
//
// The invariant: the text with the notice, decoded as mail programs decode it, is the text as
// before with the notice in one place. An insertion is decoded and compared before it is returned;
// a text of which that cannot be said gets none, and the notice has to be a part of its own.
//
// All of it is functions of bytes: a mail's structure and its header are the caller's.
//
//   - text.go: Read decodes a text, through its transfer encoding (package transfer) and its
//     charset (charset.go); Insert puts the notice in, into the bytes as they are if it can, else
//     by encoding the text anew.
//   - plain.go and html.go find the place: below what the sender wrote, above what it replies to.
//   - notice.go words the notice, in a language that language.go chooses.
package notice
