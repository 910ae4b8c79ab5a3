// Package denied keeps the deny list: what was revoked, by detach revoke or by an operator with an
// editor. Its invariant:
//
//	An object on the list is denied from that moment on, in every process; while the list cannot be
//	read, everything is.
//
// A [List] is the file. [List.Content] is what it says at one moment, and [List.Append] adds to it.
// Lists of several machines are exchanged with [List.Export] and [List.Merge].
//
// docs/format.md specifies the file.
package denied
