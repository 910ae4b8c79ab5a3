// Package skeleton reads and writes what a rewritten mail has lost. The invariant: a message
// restored from its skeleton and its attachments is the one that was received, byte for byte, or
// there is an error.
//
//	skeleton = one line of JSON (Head), then the message without the bodies of detached parts
//	message  = the same without the line, with each body put back at its offset, in its layout
//
// A skeleton is stored like an attachment, so it is authentic if it can be opened. It is read as if
// it were not: for any content, restoring takes bounded memory and writes at most the announced
// size.
package skeleton
