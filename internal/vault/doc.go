// Package vault seals attachments into stored objects and opens them again. Its invariant:
//
//	The vault serves, in any form, only what this installation stored and has not revoked.
//
// The vault uses the store, the keyring, the ledger and the deny list. Package object keeps a
// second invariant: it releases a byte only after the key has proved right and its block matches
// its CID.
//
// The attachments of one mail are a [Batch]:
//
//	batch := v.Begin()
//	defer batch.Close()
//	link, err := batch.Detach(ctx, name, mediaType, attachment) // reads it once, encrypts it on the way
//	…
//	err = batch.Commit(ctx)  // the ledger is on disk: now the links are served
//	err = batch.Discard(ctx) // or: the files are deleted
//
// [Vault.Recover] deletes what a process that was killed between Detach and Commit left.
//
// [Vault.Object] opens a stored object. It first asks three questions: is the object in the ledger,
// is it revoked, has it expired?
//
// docs/format.md specifies the object, the ledger, the deny list and the ticket.
package vault
