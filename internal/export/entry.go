package export

import (
	"fmt"
	"path"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
)

// kind says what an entry of the archive is.
type kind int

const (
	keyFile   kind = iota
	extended       // the record of one file
	denied         // the deny list
	destroyed      // one file's key
	ended          // all keys of an epoch
)

// The names of the archive, and of the data directory.
const (
	keysFolder      = "keys"
	destroyedFolder = "keys/destroyed"
	extendedFolder  = "keys/extended"
	deniedName      = "denied"
	keySuffix       = ".key"
	endedName       = "all"
)

// entry is the meaning of a name in the archive.
type entry struct {
	kind  kind
	epoch crypto.Epoch // of all but denied
	core  cid.Cid      // of extended and destroyed
}

// maxSize returns the size in bytes of the largest entry.
func (e entry) maxSize() int64 {
	switch e.kind {
	case keyFile:
		return maxKeyFile
	case extended:
		return maxExtended
	case denied:
		return maxDenied
	}
	return 0
}

func (e entry) name() string {
	switch e.kind {
	case keyFile:
		return path.Join(keysFolder, string(e.epoch)+keySuffix)
	case extended:
		return path.Join(extendedFolder, string(e.epoch), e.core.String())
	case destroyed:
		return path.Join(destroyedFolder, string(e.epoch), e.core.String())
	case ended:
		return path.Join(destroyedFolder, string(e.epoch), endedName)
	}
	return deniedName
}

// parseName accepts the names that entry.name returns, and nothing else: so no entry leads out of
// the directory.
func parseName(name string) (entry, error) {
	e, ok := entryOf(strings.Split(name, "/"))
	if !ok || e.name() != name {
		return entry{}, fmt.Errorf("the entry %q is not of an export of keys: it may come from a newer version of Detach", name)
	}
	return e, nil
}

func entryOf(parts []string) (entry, bool) {
	last := parts[len(parts)-1]
	switch {
	case len(parts) == 1:
		return entry{kind: denied}, true
	case len(parts) == 2:
		epoch, err := crypto.ParseEpoch(strings.TrimSuffix(last, keySuffix))
		return entry{kind: keyFile, epoch: epoch}, err == nil
	case len(parts) != 4:
		return entry{}, false
	}
	epoch, err := crypto.ParseEpoch(parts[2])
	if err != nil {
		return entry{}, false
	}
	if last == endedName {
		return entry{kind: ended, epoch: epoch}, true
	}
	e := entry{kind: destroyed, epoch: epoch}
	if parts[1] == path.Base(extendedFolder) {
		e.kind = extended
	}
	e.core, err = cid.Decode(last)
	return e, err == nil && e.core.Prefix() == coreForm
}

// coreForm is the form of the CIDs that objects have.
var coreForm = cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: multihash.SHA2_256, MhLength: 32}
