// Package crypto holds the secrets of Detach, and this about them: neither the link nor the
// servers are enough alone, and no secret can be printed.
//
// Every attachment has a key K of its own, 32 random bytes. Being used once makes the zero
// counter of its AES-256-CTR stream safe, and CTR is what lets a download start at any byte.
// K is never stored. It is split in two:
//
//	share    B = HKDF-SHA256(epoch secret, "detach/v1 share" ‖ CID)   derived by the gateway when asked
//	fragment A = K ⊕ B                                                in the recipient's link, nowhere else
//
// The epoch secrets live in the [Keyring], one file for each period. Deleting one destroys
// every file of that period, on every node that ever copied it.
//
// CTR authenticates nothing: the ciphertext's integrity comes from its CID, which whoever
// decrypts has to verify. What CTR cannot say, whether a key is the right one, the sealed
// [Meta] says (AES-256-GCM, as a JWE), and it is opened before a byte is released.
//
// The formats are specified in docs/format.md.
package crypto
