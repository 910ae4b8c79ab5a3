// Package reference finds what the texts of a mail refer to: mostly pictures that stand in the
// text, which are therefore no attachments.
//
// The invariant: a reference that a mail program may follow is found, however it is quoted, escaped
// or encoded. A [Set] may hold more names than that, and compares them more loosely than programs
// do: this only keeps a file in the mail, while a missed reference is a broken picture.
//
// A text is read once, as a stream, in time linear to its length, and in a constant amount of
// memory besides the names found. It is not parsed, since programs parse broken HTML differently,
// and Word also reads what other programs take for comments. Instead, each of these is looked for
// at every place of a text:
//
//   - "cid:" and "mid:" (RFC 2392), with each of the ends that the URL may have;
//   - an attribute with a URL or a list of URLs, such as src="…";
//   - a URL of CSS: url(…), or @import "…".
//
// text.go reads a text as characters, with character references such as &quot; decoded. scan.go
// looks for URLs. names.go turns URLs and the fields of a part into names that can be compared.
// set.go keeps the names.
package reference
