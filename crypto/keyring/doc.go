// Package keyring keeps the secrets of epochs in files, and destroys them: what it has destroyed,
// no copy of a keyring that knows of it derives again.
//
// A directory has one key file for each epoch, EPOCH.key: the service secret, which makes origins
// and tickets, and the nodes of a key tree, which make shares. The tree has a leaf for each object
// that may ever be. The child of a node is HMAC-SHA256(node, bit), and the bits are those of the
// object's core. To destroy one object's share, the nodes above its leaf are replaced by the
// siblings along the path (the leaf is "punctured"), and the file is written anew. To end an epoch,
// the file is deleted.
//
// Each destruction is first marked by an empty file in destroyed/EPOCH, which is named by the core,
// or "all". So keyrings of several machines are merged by copying their files into one directory in
// any order. Every derivation looks for the mark, and Open punctures the key files that lack it.
//
// A key file is replaced by renaming, under a lock. At every moment it is the
// old file or the new one. The old file's bytes are then overwritten. Readers hold a shared lock on
// the key file that they read, so that it is not overwritten meanwhile. Nothing but the list of
// punctured leaves is kept in memory: a deleted file is a secret that is gone, immediately and in
// every process.
//
// Destruction does not reach copies that nobody merges: backups, snapshots, journals, and the spare
// cells of flash memory.
package keyring
