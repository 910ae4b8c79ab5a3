// Package vault seals streams into stored objects and opens them again. Store, keyring and ledger
// meet here, and this holds: what this installation did not store it does not serve, in any form;
// and of what it did store, nothing is released before the key has proved right and every block
// has matched its CID. Package object sees to the second half.
//
// The attachments of one mail are a [Batch]:
//
//	batch := v.Begin()
//	defer batch.Close()
//	link, err := batch.Detach(ctx, name, mediaType, attachment) // read once, encrypted on the way
//	…
//	err = batch.Commit(ctx)  // in the ledger and on disk: now the links are served
//	err = batch.Discard(ctx) // or else: nothing stays
//
// What a killed process leaves between the two is found again, and deleted, by [Vault.Sweep].
//
// The gateway's questions ([Vault.Stat], [Vault.Share], [Vault.Open], [Vault.Sealed],
// [Vault.Blocks]) each begin with the same three of their own: is the object in the ledger, is
// it revoked, has it expired?
//
// An object is a UnixFS directory of two files: data, the attachment under AES-256-CTR and
// nothing else, and meta.jwe, what it is called and how long it is. docs/format.md has it all.
package vault
