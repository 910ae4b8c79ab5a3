package denied

import (
	"maps"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
)

// Export returns what the list says: the latest ruling on each object, and the CIDs that operators
// wrote, each on a line. Links and comments are left out: they may hold keys. Without a file it
// returns nothing.
func (d *List) Export() ([]byte, error) {
	list, err := d.Content()
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, c := range sortedCIDs(list.rulings) {
		text.WriteString(list.rulings[c].line(c))
	}
	for _, c := range sortedCIDs(list.written) {
		text.WriteString(c.String() + "\n")
	}
	return []byte(text.String()), nil
}

// Merge adds to the list what another one says and this one does not: rulings that are later than
// those here, and CIDs that operators wrote there. It returns how many lines it added. They take
// effect immediately, also in a process that runs.
func (d *List) Merge(other []byte) (int, error) {
	list, err := d.Content()
	if err != nil {
		return 0, err
	}
	theirs := parseDenied(string(other))
	var added []string
	for _, c := range sortedCIDs(theirs.rulings) {
		r := theirs.rulings[c]
		if ours, ok := list.rulings[c]; !ok || r.beats(ours) && r != ours {
			added = append(added, r.line(c))
		}
	}
	for _, c := range sortedCIDs(theirs.written) {
		if len(list.written[c]) == 0 {
			added = append(added, c.String()+"\n")
		}
	}
	if len(added) == 0 {
		return 0, nil
	}
	return len(added), d.write(strings.Join(added, ""))
}

func sortedCIDs[V any](m map[cid.Cid]V) []cid.Cid {
	return slices.SortedFunc(maps.Keys(m), func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
}
