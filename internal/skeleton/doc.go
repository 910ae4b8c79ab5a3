// Package skeleton is what a rewritten mail has lost, and this holds: a message restored from its
// skeleton and its attachments is the one that was received, to the last byte, or there is an error.
//
//	skeleton = one line of JSON (Head), then the message without the bodies of what was detached
//	message  = the same, with each body put back at its offset, in the layout it had
//
// A skeleton is stored like an attachment, and so is authentic when it opens. It is read as if it
// were not: whatever it says, restoring takes bounded memory and writes no more than it announced.
package skeleton
