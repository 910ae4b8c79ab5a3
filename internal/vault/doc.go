// Package vault seals attachments into stored objects and opens them again. Its invariant:
//
//	The vault serves, in any form, only what this installation stored and has not revoked.
//
// The vault uses the store, the keyring, the deny list, the ledger and the clock; package upkeep
// works on all that it has stored. An object's origin, under a secret of the keyring, proves that
// this installation stored it. Package object keeps a second invariant: it
// releases a byte only after the key has proved right and its block matches its CID.
//
// The attachments of one mail are a [Batch]:
//
//	batch := v.Begin(retention)
//	defer batch.Close()
//	link, err := batch.Detach(ctx, name, mediaType, attachment) // read once, encrypted on the way
//	…
//	err = batch.Commit(ctx)  // the keys are there, and the ledger is on disk: the mail may go on
//	err = batch.Discard(ctx) // or: the files are deleted
//
// [Vault.Recover] deletes what a process that was killed between Detach and Commit left.
//
// [Vault.Object] opens a stored object, if it is not revoked, ours, not destroyed and not ended. It
// asks in this order. While the object is read, it is asked again once a second.
//
// docs/format.md specifies the object and the ticket.
package vault
