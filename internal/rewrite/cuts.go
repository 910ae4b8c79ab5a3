package rewrite

import (
	"bytes"
	"errors"
	"hash"
	"io"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// A cut is a detached attachment.
type cut struct {
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
//	message  = spool with each cut's body put back at its offset
//	original = message without the omitted fields of its header
type cuts struct {
	header *header  // of the message; the spool begins with it
	omit   []string // see Policy.RestoreOmit
	list   []cut
	runs   int         // of lines, in the layouts
	sum    hash.Hash32 // checksum of the original so far: the cuts, and the spool up to summed
	summed int64
}

// full reports whether one more cut might exceed the limits of a skeleton.
func (c *cuts) full() bool {
	return c.runs > skeleton.MaxRuns-transfer.MaxRuns-1 || len(c.list) == skeleton.MaxCuts
}

func (c *cuts) add(one cut) {
	c.list = append(c.list, one)
	c.runs += len(one.layout.Lines)
}

// sumUp extends the checksum to the end of the spool. Its first call is for the first attachment to
// be stored, so a mail without such attachments costs no checksum.
func (c *cuts) sumUp(s *spool.Spool) error {
	if c.summed == 0 {
		c.sum.Write(c.header.without(c.omit))
		c.summed = int64(len(c.header.raw))
	}
	_, err := s.WriteSection(c.sum, c.summed, s.Size())
	c.summed = s.Size()
	return err
}

// skeleton returns the skeleton of a message that was received with size bytes.
func (c *cuts) skeleton(s *spool.Spool, size int64) (io.Reader, error) {
	var head skeleton.Head
	header := c.header.without(c.omit)
	mail := []io.Reader{bytes.NewReader(header)}
	pos := int64(len(c.header.raw))
	shift := int64(len(header)) - pos
	size += shift
	for _, one := range c.list {
		mail = append(mail, s.Section(pos, one.off))
		pos = one.off
		if raw := one.layout.Raw; raw != nil {
			// No rule can repeat this encoding, so the skeleton has the encoded body.
			mail = append(mail, raw.Section(0, raw.Size()))
			shift += raw.Size()
			continue
		}
		head.Cuts = append(head.Cuts, skeleton.Cut{Offset: one.off + shift, Link: one.link.URL(), Layout: one.layout})
	}
	mail = append(mail, s.Section(pos, s.Size()))
	if err := c.sumUp(s); err != nil {
		return nil, err
	}
	line, err := head.Line(size, c.sum)
	return io.MultiReader(bytes.NewReader(line), io.MultiReader(mail...)), err
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

// close gives back the memory and the files of the layouts.
func (c *cuts) close() (err error) {
	for _, one := range c.list {
		if one.layout.Raw != nil {
			err = errors.Join(err, one.layout.Raw.Close())
		}
	}
	return err
}
