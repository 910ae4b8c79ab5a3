package rewrite

import (
	"io"
	"slices"

	"github.com/nkirchhoffer/detach-mta/internal/spool"
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
func writeEdited(w io.Writer, s *spool.Spool, edits []edit) (int64, error) {
	pos, total := int64(0), int64(0)
	for _, e := range append(edits[:len(edits):len(edits)], edit{span: span{s.Size(), s.Size()}}) {
		n, err := s.WriteSection(w, pos, e.off)
		total += n
		if err != nil {
			return total, err
		}
		k, err := w.Write(e.text)
		total += int64(k)
		if err != nil {
			return total, err
		}
		pos = e.end
	}
	return total, nil
}
