// Package zipstream is a ZIP file that nobody writes before it is read, and this holds: every byte of it
// follows from its entries, so that its size is known at once, it can be read from anywhere, and it is the
// same whenever it is read.
//
//	local header, file, local header, file, …, central directory, end
//
// The files are stored, not compressed, with their sizes and CRC-32 in front of them. archive/zip writes such
// files too, but only from the first byte on: where an entry begins it knows when it has written all before
// it, and so a download that broke off at its end would cost all of it again.
//
// References are to APPNOTE.TXT 6.3.10, PKWARE's ".ZIP File Format Specification".
package zipstream
