// Package upkeep works on all that an installation has stored. Its invariant:
//
//	No object is deleted while its key is here.
//
// The vault serves one object at a time. A [Keeper] finds, revokes and extends objects by the
// ledger, the deny list and the keyring, and cleans up behind them:
//
//   - [Keeper.Find] and [Keeper.FindMails] find what a link names, and [Keeper.Statuses] says what
//     holds for it.
//   - [Keeper.Revoke] takes objects back, [Keeper.Undo] gives them back, and [Keeper.Destroy] is for
//     good.
//   - [Keeper.Extend] moves the end of an object.
//   - [Keeper.Sweep] destroys the keys of what has ended, or was revoked long enough ago, and then
//     deletes it.
//   - [Keeper.Fsck] compares the keyring, the ledger and the store.
package upkeep
