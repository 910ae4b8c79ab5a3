package skeleton

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"regexp"
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
// have written its value as encoded words, and put a prefix before its name, as formail does: Links
// returns the links of such fields after the others.
func Links(mail io.Reader) ([]link.Link, error) {
	var f fields
	br := bufio.NewReader(io.LimitReader(mail, maxHeader))
	for {
		line, err := br.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read mail: %w", err)
		}
		text := string(bytes.TrimRight(line, "\r\n"))
		if text == "" {
			return f.links()
		}
		f.add(strings.TrimPrefix(text, "\ufeff"))
	}
}

// fields collects the Detach-Restore fields of a header, line by line.
type fields struct {
	own, prefixed []link.Link // the last one first
	failed        error
	value         *strings.Builder // of the field that the last line belongs to; nil if that is another field
	prefix        bool
}

// add takes a line without its end.
func (f *fields) add(line string) {
	if f.continues(line) {
		if f.value != nil && f.value.Len() < maxValue {
			f.value.WriteString("\n" + line)
		}
		return
	}
	f.finish()
	name, rest, _ := strings.Cut(line, ":")
	name = strings.ToLower(strings.TrimRight(name, " \t"))
	if before, ok := strings.CutSuffix(name, strings.ToLower(Field)); ok && (before == "" || strings.HasSuffix(before, "-")) {
		f.value, f.prefix = new(strings.Builder), before != ""
		f.value.WriteString(rest)
	}
}

// fieldName matches the beginning of a field (RFC 5322 section 2.2; blanks before the colon are
// obsolete).
var fieldName = regexp.MustCompile(`^[!-9;-~]+[ \t]*:`)

// continues reports whether a line belongs to the field before it. QUIRK: some programs break a
// long link without indenting its rest, which then has no colon, or begins with the scheme.
func (f *fields) continues(line string) bool {
	folded := line[0] == ' ' || line[0] == '\t'
	return folded || f.value != nil && (!fieldName.MatchString(line) || scheme.MatchString(line))
}

var scheme = regexp.MustCompile(`(?i)^https?:`)

func (f *fields) finish() {
	if f.value == nil {
		return
	}
	l, err := parseValue(f.value.String())
	f.value = nil
	switch {
	case err != nil:
		f.failed = fmt.Errorf("link in the %s field: %w", Field, err)
	case f.prefix:
		f.prefixed = append([]link.Link{l}, f.prefixed...)
	default:
		f.own = append([]link.Link{l}, f.own...)
	}
}

func (f *fields) links() ([]link.Link, error) {
	f.finish()
	switch all := append(f.own, f.prefixed...); {
	case len(all) > 0:
		return all, nil
	case f.failed != nil:
		return nil, f.failed
	}
	return nil, ErrNoField
}

// parseValue finds the link in the value of a field, also if it was written as encoded words (RFC
// 2047).
//
// QUIRK: Python's email package writes a value that is too long for a line as encoded words, also
// one of ASCII.
func parseValue(value string) (link.Link, error) {
	words := mime.WordDecoder{CharsetReader: func(_ string, in io.Reader) (io.Reader, error) { return in, nil }} // links are ASCII
	if decoded, err := words.DecodeHeader(value); err == nil {
		value = decoded
	}
	return link.Parse(value)
}
