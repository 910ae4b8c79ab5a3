// Package crypto has the secrets of Detach, and this holds: a file opens only with the link and the
// servers' secret together, and no secret can be printed.
//
// Every attachment has its own key K, 32 random bytes. K is used for one file, so its AES-256-CTR
// stream can start at counter zero; CTR lets a download start at any byte. K is never stored. It is
// split in two:
//
//	share    B = HKDF-SHA256(leaf, "detach/v1 share" ‖ core)   derived by the gateway when asked
//	fragment A = K ⊕ B                                         in the recipient's link, nowhere else
//
// The leaf is the object's own node in the key tree of its [Epoch] (package crypto/keyring), and
// core is the CID of the object without its origin. Destroying a leaf destroys one file, and
// destroying the tree every file of the epoch, on every node that ever copied it.
//
// CTR authenticates nothing. The integrity of the ciphertext comes from its CID, which every
// decoder must verify. The [Origin] says who made the object, and binds it to one link and one key:
// the gateway gives the share to those who show a [Proof] of the link, and a decoder compares both
// before it uses the key. It opens the sealed [Meta] (AES-256-GCM, as a JWE) before it releases a
// byte.
//
// docs/format.md specifies the formats.
package crypto
