// Package ipfs builds, stores and reads objects of IPFS under one invariant:
//
//	Every block is checked against its CID before a byte of it is used; a store only moves blocks.
//
// The invariant gives the package its shape. The package builds the Merkle DAG while the bytes
// stream in ([AddFile], [AddDirectory]), so the CID is known before any store has answered and is
// the same in every store. The package also reads the DAG ([OpenFile], [OpenDirectory]), and does
// not trust the hash, the sizes or the shape of the blocks that a store returns ([Blocks]). A
// [Store] does the rest: it takes the blocks of one object, keeps them under one root, and returns
// them.
//
// An object is written like this:
//
//	root, err := store.Put(ctx, "a name", func(add ipfs.AddFunc) (cid.Cid, error) {
//		file, err := ipfs.AddFile(add, r) // blocks leave for the store while r is read
//		if err != nil {
//			return cid.Undef, err // Put stores nothing
//		}
//		dir, err := ipfs.AddDirectory(add, ipfs.Entry{Name: "data", Node: file})
//		return dir.CID, err
//	})
//
// and is read like this:
//
//	blocks, err := store.Open(ctx, root)
//	entries, err := ipfs.OpenDirectory(ctx, blocks, root)
//	file, err := ipfs.OpenFile(ctx, blocks, entries["data"].CID) // an io.ReadSeeker
//
// # The form of an object
//
// CIDv1, sha2-256, raw leaves of 1 MiB, balanced, 1024 links to a node: kubo's profile
// unixfs-v1-2025. `ipfs add --cid-version=1 --raw-leaves --chunker=size-1048576
// --max-file-links=1024` gives the same CIDs. The reader accepts only this form, with any chunk
// size up to 2 MiB and any number of links: no identity hashes, no inline data, no HAMT.
//
// # Many readers
//
// A byte of a leaf is trusted once the whole leaf is verified, so a reader needs 1 MiB, the size of
// a leaf, for as long as its client takes. All readers share the store's memory budget, and lend
// their memory between two reads. When it is used up, a new leaf gets the memory of the reader that
// has read nothing for the longest time. That reader gets its leaf from the store once more,
// verifies it, and keeps only the hashes of its pieces of 32 KiB (1 KiB in all). From then on it
// gets the leaf piece by piece, and compares each piece with its hash. So slow readers cost a few
// times as much work as others, but hardly any memory, and no reader waits for another.
//
// # The stores
//
// ipfs/embedded keeps each object in one CARv1 file. ipfs/kubo streams the same CAR into a node and
// then pins the root. The suite in ipfs/storetest tests the promises of every store; a new store
// builds on [CARWriter], [ScanCAR], [CheckBlock] and [Unavailable]. [ExportCAR] and [ReadCAR] carry
// one object over any stream, in the order of reading.
package ipfs
