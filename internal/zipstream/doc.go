// Package zipstream makes a ZIP file while it is read, and this holds: every byte follows from the
// entries and their files. The size is therefore known before the first byte, reading can start
// anywhere, and the archive is the same each time.
//
//	local header, file, local header, file, …, central directory, end
//
// The files are stored, not compressed, with their sizes and CRC-32 before them. archive/zip writes
// such archives too, but only from the first byte on, so resuming a download near its end would
// read all files again.
//
// References are to APPNOTE.TXT 6.3.10, PKWARE's ".ZIP File Format Specification".
package zipstream
