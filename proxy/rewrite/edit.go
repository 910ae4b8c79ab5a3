package rewrite

import (
	"bytes"
	"io"
	"slices"
)

// An edit replaces a piece of the spool by other bytes; an empty piece is an
// insertion.
type edit struct {
	span
	text []byte
}

// sortEdits puts edits into the order in which writeEdited takes them.
func sortEdits(edits []edit) {
	slices.SortStableFunc(edits, func(a, b edit) int { return int(a.off - b.off) })
}

// writeEdited writes the spool with the edits applied. They are sorted and do
// not overlap.
func writeEdited(w io.Writer, s *Spool, edits []edit) (int64, error) {
	var readers []io.Reader
	pos := int64(0)
	for _, e := range edits {
		readers = append(readers, s.Section(pos, e.off), bytes.NewReader(e.text))
		pos = e.end
	}
	readers = append(readers, s.Section(pos, s.Size()))
	return io.Copy(w, io.MultiReader(readers...))
}
