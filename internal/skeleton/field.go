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

// maxHeader bounds what is searched for the field: four times what is rewritten, for what was added on the way.
const maxHeader = 1 << 20

// maxValue bounds what is searched for a link.
const maxValue = 4 << 10

// ErrNoField: the header of the mail does not have the field.
var ErrNoField = errors.New("no " + Field + " field in the mail's header")

// Links returns the links of a mail's Detach-Restore fields, the last one first: Detach writes its
// field under all others, so of a mail that was rewritten twice that is the one to begin with. If
// no field holds a link, the error is that of the last, and wraps link.ErrIncomplete or link.ErrInvalid.
//
// Only the mail's own header is searched. It may have been on its way since: with other fields and
// an mbox file's "From " line on top, folded anew, with other line ends.
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
