package rewrite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A mailCase says what is right for a mail that was made after a bug report about another program,
// or after a mail of a collection.
type mailCase struct {
	policy Policy
	// right has the structures that the rewritten mail may have, as outline writes them. If it is
	// empty, nothing may be detached.
	right []string
	files []string // the names of the detached files
	// holds returns what else is wrong with the text of a rewritten mail, or "".
	holds func(before, after string) string
}

var (
	fromKiB  = Policy{MinSize: 1 << 10, Language: "auto", Restore: true}
	fromByte = Policy{MinSize: 1, Language: "auto", Restore: true}
	onTop    = Policy{MinSize: 1 << 10, Language: "auto", Restore: true, Notice: Top}
)

// untouchedCase is a mail of which nothing may be detached.
func untouchedCase(p Policy) mailCase { return mailCase{policy: p} }

// namedCase is a mail with a text and one file, which the notice must show with this name.
func namedCase(name string) mailCase {
	return mailCase{policy: fromKiB, right: []string{"text/plain*"}, files: []string{name}}
}

// pictureStays is a mail with a picture in its HTML, and a PDF.
var pictureStays = mailCase{policy: fromKiB, right: []string{"related[text/html* image/png]"}, files: []string{"report.pdf"}}

// onlyFiles returns a mail that has files and no text. The notice becomes its text.
func onlyFiles(names ...string) mailCase {
	return mailCase{policy: fromKiB, right: []string{"text/plain*"}, files: names}
}

var cases = map[string]mailCase{
	"01-doc-typed-text-plain": onlyFiles("letter.doc", "letter2.doc"),
	"02-two-logs-no-body":     onlyFiles("backup.log", "errors.log", "report.pdf"),
	"04-photo-without-type":   onlyFiles("image.jpg", "report.pdf"),
	"06-log-first-body-second": {
		policy: fromKiB, right: []string{"text/plain*"}, files: []string{"debug.log", "report.pdf"},
		holds: has("Hello, the body comes second."),
	},
	// Apple Mail shows both HTML parts, one below the other. The first carries the notice.
	"10-second-html": {
		policy: fromKiB, files: []string{"a.pdf"},
		right: []string{
			"alternative[text/plain* related[text/html* text/html image/png]]",
			"alternative[text/plain* related[text/html* text/html* image/png]]",
		},
	},
	"12-cid-quoted-by-entity":     pictureStays,
	"13-cid-parentheses":          pictureStays,
	"15-content-id-blanks-inside": pictureStays,
	"16-content-location":         untouchedCase(fromKiB),
	"19-picture-before-html":      untouchedCase(fromKiB),
	"20-smime-octet-stream":       untouchedCase(fromKiB),
	"21-pgp-mixed-up":             untouchedCase(fromKiB),
	"22-clearsigned-reply": {
		policy: fromKiB, right: []string{"text/plain*"},
		files: []string{"contract.pdf.pgp"}, holds: signedTextUnchanged,
	},
	"30-iso-2022-jp-undeclared": {
		policy: fromKiB, right: beside("text/plain"),
		files: []string{"報告書.pdf"}, holds: has("Content-Type: text/plain;\n"),
	},
	"40-alternative-enriched": {
		policy: fromKiB, right: beside("alternative[text/plain text/enriched]"),
		files: []string{"report.pdf"},
	},
	"42-alternative-two-html": {
		policy: fromKiB, right: append(beside("alternative[text/plain text/html text/html]"), "alternative[text/plain* text/html* text/html*]"),
		files: []string{"report.pdf"},
	},
	"43-notice-part-in-related": {
		policy: fromKiB, right: beside("related[text/html image/png]"),
		files: []string{"report.pdf"},
	},
	"44-top-nested-body": {
		policy: onTop, right: []string{"text/html*"},
		files: []string{"report.pdf"}, holds: linkAbove("New words from Ann."),
	},
	"50-name-words-in-continuation": namedCase("测试文件名很长很长很长很长的报告.pdf"),
	"51-name-raw-gbk":               namedCase("财务报告.pdf"),
	"53-name-raw-iso-2022-jp":       namedCase("報告書.pdf"),
	"55-name-slash":                 namedCase("Invoice 12_2026.pdf"),
	"58-name-cp950":                 namedCase("報告.pdf"),
	"90-boundary-unquoted":          namedCase("report.pdf"),
	"92-same-field-twice":           namedCase("a.pdf"),

	"c02": untouchedCase(fromByte),
	"c04": {
		policy: fromByte, right: []string{"text/plain*"},
		files: []string{"config.txt", "manual.pdf"}, holds: has("please use the config"),
	},
	"c07": untouchedCase(fromByte),
	"c10": {
		policy: fromByte, right: []string{"mixed[text/plain* text/html*]"},
		files: []string{"invoice.pdf"},
	},
	"c11": {
		policy: fromByte, right: []string{"text/plain*", "alternative[text/plain*]"},
		files: []string{"invoice.pdf"},
	},
	"c12": {policy: fromByte, right: []string{"text/plain*"}, files: []string{"a.pdf"}},
}

// notYet has the cases that are still wrong. A case that has become right must be taken out.
var notYet []string

// Each file in testdata/cases is a mail that was once handled wrongly, and its .want.eml is what
// its recipients receive.
func TestCases(t *testing.T) {
	paths, err := filepath.Glob("testdata/cases/*.eml")
	must.Succeed(t, err)
	paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, ".want.eml") })
	if len(paths) != len(cases) {
		t.Errorf("%d mails, want %d, one for each case", len(paths), len(cases))
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".eml")
		t.Run(name, func(t *testing.T) {
			c, ok := cases[name]
			if !ok {
				t.Fatal("nothing says what is right for this mail")
			}
			mail, err := os.ReadFile(path)
			must.Succeed(t, err)
			got, files := goldenRewrite(t, mail, c.policy)
			wrong := c.wrong(mail, got, files)
			switch {
			case !slices.Contains(notYet, name):
				if wrong != "" {
					t.Errorf("%s; got:\n%.3000s", wrong, got)
					return
				}
				checkGolden(t, path, mail, c.policy)
			case wrong == "":
				t.Error("this case is right now: take it out of notYet, and run with -update")
			default:
				t.Log(wrong)
			}
		})
	}
}

// wrong returns what is wrong with a rewritten mail, or "".
func (c mailCase) wrong(before, after []byte, files []file) string {
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	slices.Sort(names)
	root := cutMail("", string(after))
	switch structure := root.outline(); {
	case !slices.Equal(names, c.files):
		return fmt.Sprintf("detached %q, want %q", names, c.files)
	case len(c.files) == 0 && !bytes.Equal(before, after):
		return "nothing is to be detached, but the mail changed"
	case len(c.files) > 0 && !slices.Contains(c.right, structure):
		return fmt.Sprintf("the structure is %s, want %s", structure, strings.Join(c.right, " or "))
	case c.holds == nil:
		return ""
	default:
		return c.holds(cutMail("", string(before)).texts(), root.texts())
	}
}

// beside returns the structures in which the notice is a part of its own, beside another part.
func beside(part string) []string {
	return []string{"mixed[" + part + " text/plain*]", "mixed[text/plain* " + part + "]"}
}

// outline writes the structure of a mail: text/plain for a leaf, mixed[text/plain image/png] for a
// multipart, and * after each leaf that has a link.
func (n *node) outline() string {
	kind, _, _ := strings.Cut(strings.ToLower(n.field("Content-Type")), ";")
	if kind = strings.TrimSpace(kind); kind == "" {
		kind = "text/plain"
	}
	if n.parts == nil {
		if text, _ := n.decoded(); strings.Contains(text, anyLink) {
			kind += "*"
		}
		return kind
	}
	var parts []string
	for _, p := range n.parts {
		parts = append(parts, p.outline())
	}
	return strings.TrimPrefix(kind, "multipart/") + "[" + strings.Join(parts, " ") + "]"
}

// texts returns the leaves of a mail with the headers, decoded, with LF for each line end.
func (n *node) texts() string {
	text, _ := n.decoded()
	text = n.header + text
	for _, p := range n.parts {
		text += p.texts()
	}
	return strings.ReplaceAll(text, "\r\n", "\n")
}

func has(want string) func(before, after string) string {
	return func(_, after string) string {
		if !strings.Contains(after, want) {
			return fmt.Sprintf("%q is gone", want)
		}
		return ""
	}
}

func linkAbove(text string) func(before, after string) string {
	return func(_, after string) string {
		// The header has a link of its own.
		_, body, _ := strings.Cut(after, "\n\n")
		if above, _, ok := strings.Cut(body, text); !ok || !strings.Contains(above, anyLink) {
			return fmt.Sprintf("the link does not stand above %q", text)
		}
		return ""
	}
}

var armor = regexp.MustCompile(`(?s)-----BEGIN PGP SIGNED MESSAGE-----.*-----END PGP SIGNATURE-----`)

func signedTextUnchanged(before, after string) string {
	if !strings.Contains(after, armor.FindString(before)) {
		return "the signed text has changed"
	}
	return ""
}
