package rewrite

import (
	"bytes"
	"errors"
	"hash"
	"io"
	"slices"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// A cut is a detached attachment.
type cut struct {
	entity    *entity
	off       int64 // of its encoded body in the spool
	name      string
	mediaType string
	size      int64  // bytes, decoded
	crc32     uint32 // of the decoded bytes
	link      link.Link
	layout    transfer.Layout
}

// cuts has all detached attachments of a message, in the message's order. The invariant:
//
//	message  = spool with the edits in returned, and each cut's body put back at its offset
//	original = message without the omitted fields of its header
type cuts struct {
	header *header  // of the message; the spool begins with it
	omit   []string // see Policy.RestoreOmit
	list   []cut
	// returned inserts the bodies of parts that were detached and went back into the mail.
	returned []edit
	runs     int         // of lines, and exceptions, in the layouts
	sum      hash.Hash32 // checksum of the original so far: the cuts, and the spool up to summed
	summed   int64
}

// full reports whether one more cut might exceed the limits of a skeleton.
func (c *cuts) full() bool {
	return c.runs > skeleton.MaxRuns-max(transfer.MaxRuns+1, transfer.MaxExceptions) || len(c.list) == skeleton.MaxCuts
}

func (c *cuts) add(one cut) {
	c.list = append(c.list, one)
	c.runs += one.layout.Size()
}

// sumUp extends the checksum to the end of the spool. Its first call is for the first attachment to
// be stored, so a mail without such attachments costs no checksum.
func (c *cuts) sumUp(s *spool.Spool) error {
	if c.summed == 0 {
		for piece := range c.header.without(c.omit) {
			c.sum.Write(piece)
		}
		c.summed = int64(len(c.header.raw))
	}
	_, err := s.WriteSection(c.sum, c.summed, s.Size())
	c.summed = s.Size()
	return err
}

// skeleton returns the skeleton of a message that was received with size bytes and ends at end in
// the spool. sumUp must have been called there.
func (c *cuts) skeleton(s *spool.Spool, end, size int64) io.Reader {
	header := slices.Concat(slices.Collect(c.header.without(c.omit))...)
	i, pos, returned := 0, int64(len(c.header.raw)), c.returned
	size += int64(len(header)) - pos
	next := func() skeleton.Piece {
		to := end
		var cut *skeleton.Cut
		if i < len(c.list) {
			one := &c.list[i]
			to, cut = one.off, &skeleton.Cut{Link: one.link.URL(), Layout: one.layout}
		}
		p := skeleton.Piece{Length: int64(len(header)), Cut: cut}
		texts := []io.Reader{bytes.NewReader(header)}
		add := func(part span) {
			texts = append(texts, s.Section(part.off, part.end))
			p.Length += part.end - part.off
		}
		for len(returned) > 0 && returned[0].off < to {
			add(span{pos, returned[0].off})
			add(returned[0].spooled)
			pos, returned = returned[0].off, returned[1:]
		}
		add(span{pos, to})
		p.Text = io.MultiReader(texts...)
		i, pos, header = i+1, to, nil
		return p
	}
	return skeleton.NewReader(size, c.sum, next)
}

// fileList returns the mail's file list, or nil: mails with one file, or with more files than a
// file list can have, get none.
func (c *cuts) fileList() ([]byte, error) {
	if len(c.list) < filelist.MinFiles || len(c.list) > filelist.MaxFiles {
		return nil, nil
	}
	files := make([]filelist.File, len(c.list))
	for i, one := range c.list {
		files[i] = filelist.File{Link: one.link, Name: one.name, Type: one.mediaType, Size: one.size, CRC32: one.crc32}
	}
	list, err := filelist.Marshal(files)
	if errors.Is(err, filelist.ErrTooMany) {
		return nil, nil // the names take a megabyte; each file still has its own link
	}
	return list, err
}
