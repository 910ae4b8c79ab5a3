// Package filelist is the list of a mail's files, and this holds: whoever has the link to the list can
// open every file in it, each once, and knows before a byte is fetched how the ZIP of all is laid out.
//
//	manifest = {"version":1,"files":[{"link","name","type","size","crc32"}, …]}
//
// A link opens its own file and tells nothing of the others that came in the same mail, so that it can be
// passed on alone. Their list is therefore an object of its own, with a link of its own. It is stored like
// an attachment, and so is authentic when it opens. It is read as if it were not: whatever it says, reading
// it takes bounded memory.
package filelist
