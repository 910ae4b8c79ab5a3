// Package ledger keeps the list of what was stored. Its invariant:
//
//	The ledger is only an index, for listing and deleting: losing it loses no link.
//
// A [Ledger] is a directory with a file for each epoch. [Ledger.Append] and [Ledger.Forget] add
// lines, and return once they are on disk. [Ledger.Lookup] finds one object by an index in memory.
// [Ledger.All] and [Ledger.Each] walk over the files instead, so that a listing needs no memory for
// each object. [Ledger.Sweep] remembers how much of an ended epoch's list was deleted from the
// store.
//
// The gate asks for objects that are in no line, too: it verifies them by their origin, and then
// [Ledger.Remember] keeps them in memory.
//
// docs/format.md specifies the files.
package ledger
