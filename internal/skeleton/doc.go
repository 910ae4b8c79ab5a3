// Package skeleton reads and writes skeletons, from which rewritten mails are restored. The
// invariant: a message restored from its skeleton and its attachments is the received message, byte
// for byte, or restoring returns an error.
//
//	skeleton = one line of JSON (Head), then the message without the bodies of detached parts
//	message  = the skeleton without that line, with each body put back at its offset, in its layout
//
// A skeleton is stored like an attachment, so it is authentic if it can be opened. The code does
// not rely on that: for any content, restoring takes bounded memory and writes at most the
// announced size.
package skeleton
