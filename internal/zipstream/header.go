package zipstream

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	// Numbers from here on stand in the ZIP64 extra field, and their usual field has all bits set
	// (4.4.1.4).
	large      = math.MaxUint32
	manyFiles  = math.MaxUint16
	versionOld = 20 // 4.4.3.2: every reader knows this version
	version64  = 45 // ZIP64

	unix     = 3 << 8          // 4.4.2.2: the attributes are those of Unix
	readable = 0o100_644 << 16 // 4.4.15: a regular file's mode

	utf8Name = 1 << 11 // 4.4.4, bit 11. Bit 3 is off: sizes and CRC stand before the file.
	stored   = 0       // 4.4.5

	idZIP64 = 0x0001 // 4.5.3
	idTime  = 0x5455 // 4.6.1, Info-ZIP's: seconds since 1970; the time of MS-DOS has no time zone
)

var le = binary.LittleEndian

// local returns the header that stands before a file (4.3.7).
func (a *Reader) local(i int) []byte {
	e := &a.entries[i]
	var extra []byte
	size, version := uint32(e.Size), uint16(versionOld)
	if e.Size >= large {
		extra = le.AppendUint16(extra, idZIP64)
		extra = le.AppendUint16(extra, 16)
		extra = le.AppendUint64(extra, uint64(e.Size))
		extra = le.AppendUint64(extra, uint64(e.Size)) // both sizes are required (4.5.3)
		size, version = large, version64
	}
	extra = a.appendTime(extra)
	b := le.AppendUint32(nil, 0x04034b50)
	b = a.appendFields(b, e, version, size, len(extra))
	return append(append(b, e.Name...), extra...)
}

// central returns the file's header in the directory (4.3.12).
func (a *Reader) central(i int) []byte {
	e, at := &a.entries[i], a.starts[2*i]
	var extra64 []byte
	size, offset, version := uint32(e.Size), uint32(at), uint16(versionOld)
	if e.Size >= large {
		extra64 = le.AppendUint64(extra64, uint64(e.Size))
		extra64 = le.AppendUint64(extra64, uint64(e.Size))
		size, version = large, version64
	}
	if at >= large {
		extra64 = le.AppendUint64(extra64, uint64(at))
		offset, version = large, version64
	}
	var extra []byte
	if len(extra64) > 0 {
		extra = le.AppendUint16(extra, idZIP64)
		extra = le.AppendUint16(extra, uint16(len(extra64)))
		extra = append(extra, extra64...)
	}
	extra = a.appendTime(extra)
	b := le.AppendUint32(nil, 0x02014b50)
	b = le.AppendUint16(b, unix|version)
	b = a.appendFields(b, e, version, size, len(extra))
	b = append(b, make([]byte, 2+2+2)...) // no comment, the first disk, binary
	b = le.AppendUint32(b, readable)
	b = le.AppendUint32(b, offset)
	return append(append(b, e.Name...), extra...)
}

// appendFields appends the fields that both headers have, from the version on.
func (a *Reader) appendFields(b []byte, e *Entry, version uint16, size uint32, extra int) []byte {
	b = le.AppendUint16(b, version)
	b = le.AppendUint16(b, utf8Name)
	b = le.AppendUint16(b, stored)
	clock, date := dosTime(a.modified)
	b = le.AppendUint16(b, clock)
	b = le.AppendUint16(b, date)
	b = le.AppendUint32(b, e.CRC32)
	b = le.AppendUint32(b, size)
	b = le.AppendUint32(b, size)
	b = le.AppendUint16(b, uint16(len(e.Name)))
	return le.AppendUint16(b, uint16(extra))
}

// appendTime appends the extended timestamp: a flag for the time of the last change, and that time.
func (a *Reader) appendTime(b []byte) []byte {
	b = le.AppendUint16(b, idTime)
	b = le.AppendUint16(b, 5)
	b = append(b, 1)
	return le.AppendUint32(b, uint32(a.modified.Unix()))
}

// dosTime returns t in the format of MS-DOS: from 1980, in steps of two seconds (4.4.6).
func dosTime(t time.Time) (clock, date uint16) {
	return uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2), uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
}

// end returns the end record (4.3.16). If a number does not fit, the ZIP64 record and its locator
// stand before it (4.3.14, 4.3.15).
func (a *Reader) end() []byte {
	n := len(a.entries)
	begin, end := a.starts[2*n], a.starts[3*n]
	var b []byte
	if n >= manyFiles || end-begin >= large || begin >= large {
		b = le.AppendUint32(b, 0x06064b50)
		b = le.AppendUint64(b, 44) // bytes until the locator
		b = le.AppendUint16(b, unix|version64)
		b = le.AppendUint16(b, version64)
		b = le.AppendUint64(b, 0) // this disk, and the directory's
		b = le.AppendUint64(b, uint64(n))
		b = le.AppendUint64(b, uint64(n))
		b = le.AppendUint64(b, uint64(end-begin))
		b = le.AppendUint64(b, uint64(begin))
		b = le.AppendUint32(b, 0x07064b50)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, uint64(end))
		b = le.AppendUint32(b, 1) // disks
	}
	b = le.AppendUint32(b, 0x06054b50)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, uint16(min(n, manyFiles)))
	b = le.AppendUint16(b, uint16(min(n, manyFiles)))
	b = le.AppendUint32(b, uint32(min(end-begin, large)))
	b = le.AppendUint32(b, uint32(min(begin, large)))
	return le.AppendUint16(b, 0) // no comment
}
