// Package filelist has the list of a mail's files, and this holds: a reader with the link to the
// list can open every file in it, each once, and knows the layout of their ZIP before fetching a
// byte of a file.
//
//	list = {"version":1,"files":[{"link","name","type","size","crc32"}, …]}
//
// The link to a file opens only that file and tells nothing about the others of its mail, so that
// recipients can pass it on alone. The list is therefore a separate object with its own link. It is
// stored like an attachment, and is authentic when it opens. Read does not rely on that: reading
// any list takes bounded memory.
package filelist
