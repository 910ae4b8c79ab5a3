// Package vault seals attachments into stored objects and opens them again. Its invariant:
//
//	What this installation did not store, or has taken back, it does not serve in any form.
//
// Store, keyring, ledger and deny list meet here. Package object holds the other half: nothing is
// released before the key has proved right and every block has matched its CID.
//
// The attachments of one mail are a [Batch]:
//
//	batch := v.Begin()
//	defer batch.Close()
//	link, err := batch.Detach(ctx, name, mediaType, attachment) // reads it once, encrypts it on the way
//	…
//	err = batch.Commit(ctx)  // the ledger is on disk: now the links are served
//	err = batch.Discard(ctx) // or: nothing stays
//
// [Vault.Recover] finds what a killed process left between the two, and deletes it.
//
// [Vault.Object] answers every question about a stored object. It begins with three of its own: is
// the object in the ledger, is it revoked, has it expired?
//
// docs/format.md specifies the object, the ledger, the deny list and the ticket.
package vault
