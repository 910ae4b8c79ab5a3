package skeleton

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// Field names the header field of a rewritten mail with the link to its skeleton.
const Field = "Detach-Restore"

const (
	// maxHeader bounds the header that is searched. It is four times that of a mail that is
	// rewritten, because fields are added on the way.
	maxHeader = 1 << 20
	// maxValue bounds the value that is searched for a link.
	maxValue = 4 << 10
)

// ErrNoField: the header of the mail does not have the field.
var ErrNoField = errors.New("no " + Field + " field in the mail's header")

// Links returns the links of a mail's Detach-Restore fields, the last one first: Detach adds its
// field below all others, so restoring a mail that was rewritten twice begins with the last. If no
// field holds a link, the error is that of the last field, and wraps link.ErrIncomplete or
// link.ErrInvalid.
//
// Only the mail's own header is searched. Since Detach wrote it, it may have got other fields and
// an mbox file's "From " line on top, other folding and other line ends.
func Links(mail io.Reader) ([]link.Link, error) {
	var links []link.Link
	failed := ErrNoField
	value, inField := "", false
	finish := func() {
		if !inField {
			return
		}
		l, err := link.Parse(value)
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
