// Package skeleton reads and writes skeletons, from which rewritten mails are restored. The
// invariant: a message restored from its skeleton and its attachments is the received message, byte
// for byte, or restoring returns an error.
//
//	skeleton = one line of JSON (version, size, checksum), and the pieces of the message
//	piece    = one line of JSON (Piece), and its text
//	message  = the text of each piece, and after it the piece's attachment in its layout
//
// A skeleton is stored like an attachment, so it is authentic if it can be opened. The code does
// not rely on that: for any content, restoring takes bounded memory, holds one cut at a time, and
// writes at most the announced size.
package skeleton
