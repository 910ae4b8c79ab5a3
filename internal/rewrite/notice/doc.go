// Package notice puts a notice into one of a mail's texts, in place of the attachments.
//
// The invariant: mail programs decode the changed text to the previous text with the notice
// inserted in one place. Insert decodes and compares each change before it returns it. If a text
// cannot be changed in this way, it stays, and the caller must add the notice as a separate part.
//
// The package works on bytes. The caller is responsible for the mail's structure and header.
//
//   - text.go: Read decodes a text, through its transfer encoding (package transfer) and its charset
//     (charset.go). Insert inserts the notice, if possible without changing the other bytes,
//     otherwise by encoding the text anew.
//   - plain.go and html.go find the place: below the sender's text, above the text replied to.
//   - notice.go writes the notice, in the language that language.go chooses.
package notice
