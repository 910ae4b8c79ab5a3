// Package crypto has the secrets of Detach, and this holds: a file opens only with the link and the
// servers' secret together, and no secret can be printed.
//
// Every attachment has its own key K, 32 random bytes. K is used for one file, so its AES-256-CTR
// stream can start at counter zero; CTR lets a download start at any byte. K is never stored. It is
// split in two:
//
//	share    B = HKDF-SHA256(epoch secret, "detach/v1 share" ‖ CID)   derived by the gateway when asked
//	fragment A = K ⊕ B                                                in the recipient's link, nowhere else
//
// The epoch secrets are in the [Keyring], one file for each period. Deleting one destroys every
// file of that period, on every node that ever copied it.
//
// CTR authenticates nothing. The integrity of the ciphertext comes from its CID, which every
// decoder must verify. Opening the sealed [Meta] (AES-256-GCM, as a JWE) proves that a key is the
// right one, and a decoder opens it before it releases a byte.
//
// docs/format.md specifies the formats.
package crypto
