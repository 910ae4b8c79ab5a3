// Package export writes what another gateway needs to open links into one file, and reads it back.
// Its invariant:
//
//	An import opens what the exporting gateway could open, and never brings back what either of
//	the two has destroyed.
//
// An export is an age file (age-encryption.org/v1) around a tar archive. The archive has the names
// that the files have below data_dir, so age and tar alone restore it into an empty directory:
//
//	keys/EPOCH.key             for each epoch
//	keys/extended/EPOCH/CORE   for each extended file
//	denied                     the deny list, if there is one
//	keys/destroyed/EPOCH/CORE  empty: the key of this file is destroyed
//	keys/destroyed/EPOCH/all   empty: the keys of the whole epoch are destroyed
//
// The archive is read several times: [Open] reads all of it before anything is changed, and
// [Archive.Import] then takes the destroyed keys first, so that no key file is used without them.
package export
