package parsers

import (
	"fmt"
	"html"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/nkirchhoffer/detach-mta/internal/test/python"
)

// A complaint is something that people see and that Detach should not have changed.
type complaint struct {
	rule   string // exceptions.tsv names it
	detail string
}

// A comparison compares a mail as received with the mail as delivered.
type comparison struct {
	before, after reading
	minSize       int64
	files         []file       // detached
	notice        *python.Part // if it is a part of its own
	complaints    []complaint
}

// compare returns what a recipient might complain about.
func compare(before, after reading, files []file, minSize int64) []complaint {
	c := &comparison{before: before, after: after, files: files, minSize: minSize}
	if before.python.Root == nil || after.python.Root == nil {
		c.complain("python: unreadable", "%s, rewritten: %s", before.python.Error, after.python.Error)
		return c.complaints
	}
	c.kept()
	if len(files) == 0 {
		return c.complaints
	}
	c.parts()
	c.renderings()
	c.pictures()
	c.together()
	c.signed()
	c.defects()
	for _, name := range programs {
		c.program(name, before.views[name], after.views[name])
	}
	c.names()
	return c.complaints
}

func (c *comparison) complain(rule, format string, args ...any) {
	c.complaints = append(c.complaints, complaint{rule, fmt.Sprintf(format, args...)})
}

// parts checks by Python's reading that each part is unchanged, or behind a link, or a text with a
// notice, and that nothing else is there.
func (c *comparison) parts() {
	after := c.after.python.Leaves()
	var texts []*python.Part // of the received mail, without those that are unchanged
	gone := c.detached()
	for _, p := range c.before.python.Leaves() {
		i := slices.IndexFunc(after, func(a *python.Part) bool { return sameLeaf(p, a) })
		switch {
		case i >= 0:
			after = slices.Delete(after, i, i+1)
		case gone[p.SHA256] > 0:
			gone[p.SHA256]--
		case strings.HasPrefix(p.Type, "text/"):
			texts = append(texts, p)
		default:
			c.complain("python: part gone", "%s, %q, %d bytes", p.Type, p.Name, p.Size)
		}
	}
	for _, a := range after {
		texts = c.carrier(a, texts)
	}
	for _, p := range texts {
		if len(words(p.Text)) == 0 {
			continue // it went into another text
		}
		c.complain("python: text gone", "%s, %q: %.200q", p.Type, p.Name, p.Text)
	}
	for sum, n := range gone {
		if n > 0 {
			c.complain("python: link to another file", "%s is not in the mail", sum)
		}
	}
}

func sameLeaf(a, b *python.Part) bool {
	return a.SHA256 == b.SHA256 && a.Type == b.Type && a.Name == b.Name && a.Disposition == b.Disposition && a.CID == b.CID
}

// carrier checks a part that the received mail does not have. It must be a text with a notice, two
// texts that became one, or the notice. carrier returns the texts that are left.
func (c *comparison) carrier(a *python.Part, texts []*python.Part) []*python.Part {
	var held []*python.Part // the texts that a holds
	var whole, added []string
	for len(held) < min(2, len(texts)) && texts[len(held)].Type == a.Type {
		joined := slices.Concat(whole, words(texts[len(held)].Text))
		more, ok := cutOut(joined, words(a.Text))
		if !ok {
			break
		}
		held, whole, added = texts[:len(held)+1], joined, more
	}
	switch {
	case len(held) == 2 && len(added) == 0:
	case !isText(a) || !c.hasLinks(strings.Join(added, " ")) && !c.hasLinks(a.Text):
		c.complain("python: new part", "%s, %q, %d bytes: %.200q", a.Type, a.Name, a.Size, a.Text)
	case len(held) == 0:
		c.notice = a
	case len(held) == 1 && !oneInsertion(held[0].Text, a.Text):
		c.complain("python: more than one insertion", "%s: %.300q, was %.300q", a.Type, a.Text, held[0].Text)
	}
	rendering := len(held) > 0 && inAlternative(held[0])
	if strings.TrimSpace(a.Name) != "" && !rendering || a.Disposition == "attachment" {
		c.complain("python: notice in a file", "%s, %q", a.Type, a.Name)
	}
	damaged := slices.ContainsFunc(held, func(b *python.Part) bool { return !b.Readable })
	if !a.Readable && !damaged {
		c.complain("python: unreadable text", "%s: %.200q", a.Type, a.Text)
	}
	return texts[len(held):]
}

// oneInsertion reports whether after is before with something inserted at one place. Line ends are
// alike, and blanks and line ends at the end do not count.
func oneInsertion(before, after string) bool {
	before, after = unix(before), unix(after)
	same := 0
	for same < min(len(before), len(after)) && before[same] == after[same] {
		same++
	}
	return len(after) >= len(before) && strings.HasSuffix(after, before[same:])
}

func unix(s string) string { return strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), " \t\n") }

func (c *comparison) hasLinks(text string) bool {
	return !slices.ContainsFunc(c.files, func(f file) bool { return !strings.Contains(text, f.url) })
}

// detached counts the detached files by their SHA-256.
func (c *comparison) detached() map[string]int {
	n := make(map[string]int)
	for _, f := range c.files {
		n[f.sha256]++
	}
	return n
}

// renderings checks that a program sees all links, whichever of the alternatives it shows.
func (c *comparison) renderings() {
	if missing := c.hides(c.after.python.Root); missing != nil {
		c.complain("python: rendering without links", "%s in %q: %.200q", missing.Type, missing.Above, missing.Text)
	}
}

// hides returns a part that a program may show in the place of p, and that does not show all links,
// or nil.
func (c *comparison) hides(p *python.Part) *python.Part {
	switch {
	case len(p.Parts) == 0 && isText(p) && c.hasLinks(p.Text):
		return nil
	case len(p.Parts) == 0:
		return p
	case p.Type == "multipart/alternative":
		for _, child := range p.Parts {
			if missing := c.hides(child); missing != nil && mayBeShown(child) {
				return missing
			}
		}
		return nil
	case p.Type == "multipart/related":
		root := slices.IndexFunc(p.Parts, mayBeShown) // normally the first part
		return c.hides(p.Parts[max(0, root)])
	default:
		return c.hidesMixed(p)
	}
}

// hidesMixed is hides for parts that are shown one after another. One of them must have the links.
// Programs that show only HTML must find them in the first HTML, or in a part of its own.
func (c *comparison) hidesMixed(p *python.Part) *python.Part {
	i := slices.IndexFunc(p.Parts, func(child *python.Part) bool { return c.hides(child) == nil })
	if i < 0 {
		return c.hides(p.Parts[0])
	}
	html := slices.IndexFunc(p.Parts, func(child *python.Part) bool { return child.Type == "text/html" && isText(child) })
	if html >= 0 && len(p.Parts[i].Parts) == 0 && p.Parts[i] != c.notice {
		return c.hides(p.Parts[html])
	}
	return nil
}

// isText reports whether mail programs show a leaf as a text.
func isText(p *python.Part) bool {
	return strings.HasPrefix(p.Type, "text/") && p.Disposition != "attachment"
}

// mayBeShown reports whether a program may show the part of a multipart/alternative as the mail's
// text. Calendars show it beside their invitation.
func mayBeShown(p *python.Part) bool {
	return strings.HasPrefix(p.Type, "multipart/") || isText(p) && p.Type != "text/calendar"
}

// pictures checks that what an HTML refers to is there, under the same name.
func (c *comparison) pictures() {
	after, gone := c.after.python.Leaves(), c.detached()
	for _, p := range c.before.python.Leaves() {
		shown := slices.ContainsFunc(p.ShownBy, func(page string) bool { return gone[page] == 0 })
		i := slices.IndexFunc(after, func(a *python.Part) bool {
			return a.SHA256 == p.SHA256 && a.CID == p.CID && a.Location == p.Location
		})
		if shown && i < 0 && !strings.HasPrefix(p.Type, "text/") {
			c.complain("python: picture gone", "%s, %q, %s %s", p.Type, p.Name, p.CID, p.Location)
		}
	}
}

// together checks that what is signed or encrypted is as it was, also where the multipart does not
// say that its parts belong together.
func (c *comparison) together() {
	after := c.after.python.Leaves()
	for _, p := range c.before.python.Leaves() {
		if !slices.ContainsFunc(after, func(a *python.Part) bool { return a.SHA256 == p.SHA256 }) && c.isCrypto(p) {
			c.complain("python: signed or encrypted part changed", "%s, %q, %d bytes", p.Type, p.Name, p.Size)
		}
	}
}

var cryptoType = regexp.MustCompile(`^application/(pgp-(encrypted|signature)|(x-)?pkcs7-.*)$`)

// signsSibling reports whether a part is the detached signature of one file beside it.
func signsSibling(s, whole *python.Part) bool {
	return slices.ContainsFunc(whole.Parts, func(p *python.Part) bool { return signs(s, p) })
}

func signs(s, p *python.Part) bool {
	return p.Name != "" && signatureName.MatchString(s.Name) && strings.TrimSuffix(s.Name, path.Ext(s.Name)) == p.Name
}

// signed checks that a file and its detached signature are both in the mail, or neither.
func (c *comparison) signed() {
	gone := c.detached()
	for _, p := range c.before.python.Leaves() {
		for _, s := range c.before.python.Leaves() {
			if signs(s, p) && (gone[p.SHA256] > 0) != (gone[s.SHA256] > 0) {
				c.complain("python: file apart from its signature", "%q and %q", p.Name, s.Name)
			}
		}
	}
}

var signatureName = regexp.MustCompile(`(?i)\.(sig|sign|asc|p7s)$`)

// isCrypto reports whether a part is signed, encrypted, or a signature, or belongs to one.
func (c *comparison) isCrypto(p *python.Part) bool {
	whole := c.before.python.Above(p)
	if whole != nil && signsSibling(p, whole) {
		return false
	}
	if cryptoType.MatchString(p.Type) || regexp.MustCompile(`(?i)\.p7[mscz]$`).MatchString(p.Name) {
		return true
	}
	for ; whole != nil; whole = c.before.python.Above(whole) {
		if slices.ContainsFunc(whole.Parts, func(s *python.Part) bool { return cryptoType.MatchString(s.Type) && !signsSibling(s, whole) }) {
			return true
		}
	}
	return false
}

// kept checks that a file that all programs list with the same bytes is not left in the mail.
func (c *comparison) kept() {
	if c.before.python.Restore != "" {
		return // it was rewritten before
	}
	// Some programs take the first line for the end of the header.
	if slices.Contains(c.before.python.Root.Defects, "FirstHeaderLineIsContinuationDefect") {
		return
	}
	gone := c.detached()
	for _, p := range c.before.python.Leaves() {
		if p.Size < c.minSize || p.Size == 0 || !c.isFile(p) || !c.allList(p) {
			continue
		}
		if gone[p.SHA256]--; gone[p.SHA256] < 0 {
			c.complain("kept", "%s, %s, %q in %q, %d bytes", p.Type, p.Disposition, p.Name, p.Above, p.Size)
		}
	}
}

// isFile reports whether a part is to be detached by what Python reads.
func (c *comparison) isFile(p *python.Part) bool {
	above := strings.Join(p.Above, " ")
	switch {
	case isClosed(p), strings.Contains(above, "message/"), c.isCrypto(p), len(p.ShownBy) > 0:
		return false
	case p.CID+p.Location != "" && strings.Contains(above, "multipart/related"), inAlternative(p) && p.Disposition != "attachment":
		return false
	}
	return p.Disposition == "attachment" || !strings.HasPrefix(p.Type, "text/")
}

// inAlternative reports whether a part is itself one of several renderings.
func inAlternative(p *python.Part) bool {
	return len(p.Above) > 0 && strings.HasPrefix(p.Above[len(p.Above)-1], "multipart/alternative")
}

// allList reports whether the other programs list a part as a file with these bytes.
func (c *comparison) allList(p *python.Part) bool {
	return !slices.ContainsFunc(programs, func(name string) bool {
		return !slices.ContainsFunc(c.before.views[name].Files, func(l listed) bool { return l.SHA256 == p.SHA256 })
	})
}

// defects checks that Python finds nothing wrong that it did not find before.
func (c *comparison) defects() {
	old := slices.Clone(c.before.python.Defects)
	for _, d := range c.after.python.Defects {
		if i := slices.Index(old, d); i >= 0 {
			old = slices.Delete(old, i, i+1)
		} else {
			c.complain("python: new defect", "%s", d)
		}
	}
}

// program checks what one of the programs shows.
func (c *comparison) program(name string, before, after view) {
	if before.Error != "" || after.Error != "" {
		if before.Error != after.Error {
			c.complain(name+": unreadable", "%s, rewritten: %s", before.Error, after.Error)
		}
		return
	}
	c.shown(name+": text", "text/plain", before.Text, after.Text, !c.hasLinks(after.HTML))
	c.shown(name+": HTML", "text/html", before.HTML, after.HTML, true)
	if after.Text+after.HTML == "" {
		c.complain(name+": nothing shown", "no text and no HTML")
	}
	c.list(name, before.Files, after.Files)
}

// shown checks the text or the HTML that a program shows: it is as before, but for the notice and
// for detached texts. A text beside an HTML with links needs none.
func (c *comparison) shown(rule, mediaType, before, after string, needsLinks bool) {
	added, ok := cutOut(c.withoutDetached(words(before)), words(after))
	if !ok { // without the tags that a program puts around texts when it makes one HTML of all
		_, ok = cutOut(c.withoutDetached(words(untagged(before))), words(untagged(after)))
	}
	switch {
	case after == "" && c.noneLeft(mediaType): // they were files
	case !ok:
		c.complain(rule+" changed", "%.1000q, was %.1000q", after, before)
	case after != "" && needsLinks && !c.hasLinks(strings.Join(added, " ")):
		c.complain(rule+" without links", "%.1000q", after)
	}
	if before != "" && damage(after) > damage(before) && !slices.ContainsFunc(c.files, func(f file) bool { return damage(f.name) > 0 }) {
		c.complain(rule+" unreadable", "%.1000q, was %.1000q", after, before)
	}
}

// damage counts the characters that stand for bytes without a meaning.
func damage(text string) int { return strings.Count(text, "\ufffd") }

// noneLeft reports whether the rewritten mail has no part of a type.
func (c *comparison) noneLeft(mediaType string) bool {
	return !slices.ContainsFunc(c.after.python.Leaves(), func(a *python.Part) bool { return a.Type == mediaType })
}

// withoutDetached removes the words of texts that were detached. A program may have made a text of
// an HTML.
func (c *comparison) withoutDetached(all []string) []string {
	gone := c.detached()
	for _, p := range c.before.python.Leaves() {
		if gone[p.SHA256] == 0 || p.Text == "" {
			continue
		}
		gone[p.SHA256]--
		for _, text := range []string{p.Text, untagged(p.Text)} {
			w := words(text)
			i := 0
			for i+len(w) <= len(all) && !slices.Equal(all[i:i+len(w)], w) {
				i++
			}
			if i+len(w) <= len(all) {
				all = slices.Concat(all[:i], all[i+len(w):])
				break
			}
		}
	}
	return all
}

var tag = regexp.MustCompile(`<[^>]*>`)

// untagged returns the text of an HTML.
func untagged(text string) string { return html.UnescapeString(tag.ReplaceAllString(text, " ")) }

// list checks a program's list of files: each is there, or has a link, and there is no other.
func (c *comparison) list(name string, before, after []listed) {
	gone := slices.Clone(c.files)
	after = slices.Clone(after)
	for _, f := range before {
		i := slices.IndexFunc(after, func(a listed) bool { return a.SHA256 == f.SHA256 && a.Name == f.Name })
		g := slices.IndexFunc(gone, f.is)
		switch {
		case i >= 0:
			after = slices.Delete(after, i, i+1)
		case g >= 0:
			gone = slices.Delete(gone, g, g+1)
		default:
			c.complain(name+": file gone", "%s, %q, %d bytes", f.Type, f.Name, f.Size)
		}
	}
	for _, f := range after {
		c.complain(name+": new file", "%s, %q, %d bytes", f.Type, f.Name, f.Size)
	}
}

// is reports whether a program's file is the detached one.
func (l listed) is(f file) bool { return l.SHA256 == f.sha256 || l.Lines == f.lines }

// names checks that each file has the name that one of the programs shows.
func (c *comparison) names() {
	for _, f := range c.files {
		var names []string
		for _, p := range c.before.python.Leaves() {
			if p.SHA256 == f.sha256 {
				names = append(names, p.Name)
			}
		}
		for _, program := range programs {
			for _, l := range c.before.views[program].Files {
				if l.is(f) {
					names = append(names, l.Name)
				}
			}
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == "" || damage(name) > damage(f.name) })
		if len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return sameName(name, f.name) }) {
			slices.Sort(names)
			c.complain("name", "%q, others show %q", f.name, slices.Compact(names))
		}
	}
}

// sameName reports whether a name is the one that another program shows, but for what a file system
// and a reader need: no control characters, no changes of the writing direction, no folders.
func sameName(other, name string) bool {
	other, name = readable(other), readable(name)
	if folder := strings.LastIndexAny(other, `/\`); isPath(other) && folder >= 0 {
		return strings.TrimSpace(other[folder+1:]) == name
	}
	return strings.NewReplacer("/", "_", `\`, "_").Replace(other) == name
}

// readable returns a name without characters that cannot be seen, in one form of Unicode.
func readable(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsSpace(r) && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, norm.NFC.String(name))
	return strings.Join(strings.Fields(name), " ")
}

func isPath(name string) bool {
	return strings.HasPrefix(name, "/") || strings.HasPrefix(name, `\`) || strings.HasPrefix(name, "..") || len(name) > 1 && name[1] == ':'
}
