package skeleton

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// Field is the name of the header field that links a rewritten mail to its skeleton.
const Field = "Detach-Restore"

const (
	// maxHeader bounds the header that is searched. It is four times the limit for rewriting,
	// because mail servers add fields on the way.
	maxHeader = 1 << 20
	// maxValue bounds the value that is searched for a link.
	maxValue = 4 << 10
)

// ErrNoField means that the mail's header has no such field.
var ErrNoField = errors.New("no " + Field + " field in the mail's header")

// Links returns the links of a mail's Detach-Restore fields, the last one first: Detach adds its
// field below all others, so restoring a mail that was rewritten twice begins with the last. If no
// field holds a link, Links returns ErrNoField, or the last field's error, which wraps
// link.ErrIncomplete or link.ErrInvalid.
//
// Links searches only the mail's own header. Programs may have added fields and an mbox "From "
// line on top, and may have changed folding and line ends, since Detach wrote the field. They may
// have written its value as encoded words.
func Links(mail io.Reader) ([]link.Link, error) {
	var links []link.Link
	failed := ErrNoField
	value, inField := "", false
	finish := func() {
		if !inField {
			return
		}
		l, err := link.Parse(unencoded(value))
		if err != nil {
			failed = fmt.Errorf("link in the %s field: %w", Field, err)
			return
		}
		links = append([]link.Link{l}, links...)
	}
	br := bufio.NewReader(io.LimitReader(mail, maxHeader))
	for {
		line, err := br.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read mail: %w", err)
		}
		text := bytes.TrimRight(line, "\r\n")
		switch {
		case len(text) == 0:
			if finish(); len(links) == 0 {
				return nil, failed
			}
			return links, nil
		case text[0] == ' ' || text[0] == '\t':
			if inField && len(value) < maxValue {
				value += string(text)
			}
		default:
			finish()
			name, rest, _ := strings.Cut(string(text), ":")
			value, inField = rest, strings.EqualFold(strings.TrimRight(name, " \t"), Field)
		}
	}
}

// unencoded returns a value without its encoded words (RFC 2047).
//
// QUIRK: Python's email package writes a value that is too long for a line as encoded words, also
// one of ASCII.
func unencoded(value string) string {
	decoded, err := new(mime.WordDecoder).DecodeHeader(value)
	if err != nil {
		return value // another charset than that of a link
	}
	return decoded
}
