package rewrite

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"mime/quotedprintable"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// A node is an entity of a mail, parsed by the simplest reading of RFC 2046: in memory, line by
// line, without the walk's code. The bytes of its nodes, in order, are the mail.
type node struct {
	delimiter, header, body string // a leaf has a body; a multipart has the next fields
	preamble, closing, rest string
	parts                   []*node
}

var boundaryParam = regexp.MustCompile(`(?is)^content-type:\s*multipart/[^\n]*(?:\r?\n[ \t][^\n]*)*?boundary\s*=\s*(?:"([^"]*)"|([^\s;"]+))`)

func cutMail(delimiter, entity string) *node {
	n := &node{delimiter: delimiter}
	lines := strings.SplitAfter(entity, "\n")
	for len(lines) > 0 {
		line := lines[0]
		lines = lines[1:]
		n.header += line
		if strings.TrimRight(line, "\r\n") == "" {
			break
		}
	}
	boundary, ok := n.boundary()
	if !ok {
		n.body = strings.Join(lines, "")
		return n
	}
	at, from := "", 0 // the delimiter line of the current part, and the part's first line
	for i, line := range lines {
		text := strings.TrimRight(line, " \t\r\n")
		closing := text == "--"+boundary+"--"
		if text != "--"+boundary && !closing {
			continue
		}
		n.add(at, strings.Join(lines[from:i], ""))
		at, from = line, i+1
		if closing {
			n.closing, n.rest = line, strings.Join(lines[from:], "")
			return n
		}
	}
	n.add(at, strings.Join(lines[from:], ""))
	return n
}

func (n *node) add(delimiter, part string) {
	if delimiter == "" {
		n.preamble = part
		return
	}
	n.parts = append(n.parts, cutMail(delimiter, part))
}

func (n *node) boundary() (string, bool) {
	for _, field := range fieldsOf(n.header) {
		if m := boundaryParam.FindStringSubmatch(field); m != nil {
			boundary := strings.NewReplacer("\r", "", "\n", "").Replace(m[1] + m[2])
			return boundary, boundary != ""
		}
	}
	return "", false
}

// fieldsOf returns the fields of a header, each with its folded lines.
func fieldsOf(header string) []string {
	var fields []string
	for _, line := range strings.SplitAfter(header, "\n") {
		if len(fields) > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			fields[len(fields)-1] += line
		} else {
			fields = append(fields, line)
		}
	}
	return fields
}

func (n *node) String() string {
	s := n.delimiter + n.header + n.body + n.preamble
	for _, p := range n.parts {
		s += p.String()
	}
	return s + n.closing + n.rest
}

const anyLink = "https://files.example.org/"

// compare returns "" if after is before without detached parts and with the notice, otherwise the
// difference. It counts down the contents of the detached parts in files.
func compare(before, after *node, files map[string]int) string {
	if before.String() == after.String() {
		return ""
	}
	switch {
	case before.delimiter != after.delimiter:
		return "delimiter line"
	case len(before.parts) == 0 && len(after.parts) == 0:
		return compareText(before, after)
	case before.mixed() && before.leaves(after, files):
		return ""
	case before.header != after.header:
		return "header of a multipart"
	case before.preamble != after.preamble, before.closing != after.closing, before.rest != after.rest:
		return "preamble, closing delimiter or epilogue"
	}
	return compareParts(before.parts, after.parts, files)
}

func (n *node) mixed() bool {
	return strings.HasPrefix(strings.ToLower(n.field("Content-Type")), "multipart/mixed")
}

// leaves reports whether after is the only part that is left of n, in the place of n.
func (n *node) leaves(after *node, files map[string]int) bool {
	for i, left := range n.parts {
		raised, trial := *left, map[string]int{}
		raised.delimiter, raised.header = n.delimiter, raisedHeader(n, left)
		rest := slices.Delete(slices.Clone(n.parts), i, i+1)
		if last := len(rest) - 1; i < last && len(left.parts) == 0 && strings.HasSuffix(after.body, rest[last].body) {
			// Two plain texts become one, with a blank line between them.
			if text := rest[last].body; !strings.HasPrefix(text, "\n") && !strings.HasPrefix(text, "\r\n") {
				raised.body += raised.body[len(strings.TrimRight(raised.body, "\r\n")):]
			}
			raised.body += rest[last].body
			rest = rest[:last]
		}
		if len(rest) == 0 || slices.ContainsFunc(rest, func(p *node) bool { return !p.detached(trial) }) {
			continue
		}
		if compare(&raised, after, trial) == "" {
			for f, n := range trial {
				files[f] += n
			}
			return true
		}
	}
	return false
}

// raisedHeader returns the header of whole with the Content- fields of the part that is left.
func raisedHeader(whole, left *node) string {
	content := func(f string) bool { return strings.HasPrefix(strings.ToLower(f), "content-") }
	var header, moved string
	for _, f := range fieldsOf(left.headerWithout("content-length:")) {
		if name, value, _ := strings.Cut(f, ":"); content(f) {
			moved += name + ": " + strings.TrimLeft(value, " \t\r\n")
		}
	}
	for _, f := range fieldsOf(whole.header) {
		name, _, _ := strings.Cut(f, ":")
		switch {
		case strings.Trim(f, "\r\n") == "":
			header, moved = header+moved+f, "" // the blank line
		case !content(f), aboutMessage[strings.ToLower(name)] && left.field(name) == "":
			header += f
		}
	}
	return header
}

func compareParts(before, after []*node, files map[string]int) string {
	added := 0
	for _, b := range before {
		if len(after) > 1 && isNotice(after[0]) && compare(b, after[1], map[string]int{}) == "" {
			after = after[1:]
			added++
		}
		why, matched := "part is gone", false
		for len(after) > 0 && !matched {
			trial := map[string]int{}
			if why = compare(b, after[0], trial); why == "" {
				matched = true
				for f, n := range trial {
					files[f] += n
				}
			} else if !isNotice(after[0]) {
				break
			} else {
				added++
			}
			after = after[1:]
		}
		if !matched && !b.detached(files) {
			return why + " | " + fmt.Sprintf("%.200s", b)
		}
	}
	if len(after) > 0 && isNotice(after[0]) {
		after = after[1:]
		added++
	}
	if len(after) > 0 || added > 1 {
		return "there are additional parts"
	}
	return ""
}

// detached counts down the contents of a removed part in files.
func (n *node) detached(files map[string]int) bool {
	if len(n.parts) > 0 {
		return !slices.ContainsFunc(n.parts, func(p *node) bool { return !p.detached(files) })
	}
	content, ok := n.decoded()
	files[content]--
	return ok
}

func (n *node) field(name string) string {
	for _, f := range fieldsOf(n.header) {
		if key, value, ok := strings.Cut(f, ":"); ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// notBase64 is what all programs skip in base64.
var notBase64 = regexp.MustCompile(`[^A-Za-z0-9+/]+`)

// decoded returns the body of a leaf, without the line end that belongs to the delimiter.
func (n *node) decoded() (string, bool) {
	body := strings.TrimSuffix(strings.TrimSuffix(n.body, "\n"), "\r")
	if n.delimiter == "" {
		body = n.body
	}
	var r io.Reader = strings.NewReader(body)
	switch strings.ToLower(n.field("Content-Transfer-Encoding")) {
	case "base64":
		r = base64.NewDecoder(base64.RawStdEncoding, strings.NewReader(notBase64.ReplaceAllString(body, "")))
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, err := io.ReadAll(r)
	return string(b), err == nil
}

func isNotice(n *node) bool {
	text, _ := n.decoded()
	return strings.Contains(text, anyLink) && strings.Count(n.header, "\n") == 3 && !strings.Contains(text, "\n\n\n\n")
}

// headerWithout returns the header without the fields that begin with a prefix, in lower case.
func (n *node) headerWithout(prefixes ...string) string {
	return strings.Join(slices.DeleteFunc(fieldsOf(n.header), func(f string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(strings.ToLower(f), p) })
	}), "")
}

// compareText compares a text with the same text with an insertion in one place. The fields of its
// header must be the same, except for those that say how the text is encoded.
func compareText(before, after *node) string {
	const typ, encoding = "content-type:", "content-transfer-encoding:"
	if before.headerWithout(typ, encoding) != after.headerWithout(typ, encoding) {
		return "header of a text"
	}
	if before.header == after.header && inserted(before.body, after.body) {
		return ""
	}
	b, ok1 := before.decoded()
	a, ok2 := after.decoded()
	if charset := textCharset(before); charset != "" && textCharset(after) != charset {
		b, _, _ = charsets.Decode(charset, b)
	}
	// The last line end belongs to the text only at the end of the message, not before a delimiter.
	if !ok1 || !ok2 || !inserted(strings.TrimRight(b, "\r\n"), strings.TrimRight(a, "\r\n")) {
		return "text has more changes than one insertion"
	}
	return ""
}

func textCharset(n *node) string {
	_, params, _ := strings.Cut(strings.ToLower(n.field("Content-Type")), "charset=")
	cs, _, _ := strings.Cut(params, ";")
	return strings.Trim(cs, "\" \t\r\n")
}

// inserted reports whether after is before with one insertion, which has a link.
func inserted(before, after string) bool {
	first := firstDifference([]byte(before), []byte(after))
	last := 0
	for last < min(len(before), len(after)) && before[len(before)-1-last] == after[len(after)-1-last] {
		last++
	}
	unfolded := strings.NewReplacer("=\r\n", "", "=\n", "").Replace(after)
	return len(after) > len(before) && first+last >= len(before) && strings.Contains(unfolded, anyLink)
}

// Only the detached parts, the notice, and the fields that say how a text is encoded change.
func TestOnlyWhatMustChange(t *testing.T) {
	faults.Covers(t, 56)
	changed := 0
	corpus.Each(t, func(t *testing.T, mail []byte) {
		d := newMemory()
		got, m := mustRewrite(t, bytes.NewReader(mail), Policy{MinSize: 1, Restore: true, Language: "en"}, d)
		if m.Stats().Detached == 0 {
			return // TestCorpusRestored checks this mail
		}
		changed++
		after := cutMail("", string(got))
		head, end, ok := strings.Cut("\n"+after.header, "\n"+skeleton.Field+": ")
		if !ok {
			t.Fatalf("the %s field is missing", skeleton.Field)
		}
		_, end, _ = strings.Cut(end, "\n")
		after.header = strings.TrimPrefix(head+"\n", "\n") + end
		files := map[string]int{}
		for _, f := range d.attachments() {
			files[string(f.content)]++
		}
		before := cutMail("", string(mail))
		trial := maps.Clone(files)
		if before.detached(trial) && len(after.parts) == 0 && noneLeft(trial) {
			checkWholeMail(t, before, after)
			return
		}
		if why := compare(before, after, files); why != "" {
			t.Errorf("%s\nbefore\n%s\nafter\n%s", why, mail, got)
		}
		for f, n := range files {
			if n != 0 {
				t.Errorf("detached %+d times more than it was removed: %.80q", n, f)
			}
		}
	})
	t.Logf("%d mails changed", changed)
	if changed < 200 {
		t.Errorf("only %d mails changed", changed)
	}
}

func noneLeft(files map[string]int) bool {
	for _, n := range files {
		if n != 0 {
			return false
		}
	}
	return true
}

// checkWholeMail checks that a mail of which nothing is left keeps the fields that are not about
// it.
func checkWholeMail(t *testing.T, before, after *node) {
	t.Helper()
	if got, want := after.headerWithout("content-", "mime-version"), before.headerWithout("content-", "mime-version"); got != want {
		t.Errorf("header: got %q, want %q", got, want)
	}
}
