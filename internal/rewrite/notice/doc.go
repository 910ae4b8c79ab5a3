// Package notice puts a notice into one of a mail's texts, in place of the attachments.
//
// The invariant: the text with the notice, decoded as mail programs decode it, is the text as
// before with the notice in one place. Each insertion is decoded and compared before it is
// returned. A text that cannot be changed so is left alone; then the notice must become a part of
// its own.
//
// The package consists of functions of bytes; the mail's structure and its header are the caller's.
//
//   - text.go: Read decodes a text, through its transfer encoding (package transfer) and its charset
//     (charset.go). Insert puts the notice in, if it can without changing the other bytes, else by
//     encoding the text anew.
//   - plain.go and html.go find the place: below what the sender wrote, above a text that is replied
//     to.
//   - notice.go words the notice, in the language that language.go chooses.
package notice
