package parsers

import (
	"flag"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/python"
)

var classes = flag.Bool("classes", false, "count the mails of the corpus in each class, with -v")

// The log counts the mails of the corpus that belong to each class of what people might call wrong,
// or of what is kept on purpose.
func TestCountClasses(t *testing.T) {
	if !*classes {
		t.Skip("only with -classes")
	}
	r := startReaders(t)
	for i, minSize := range minSizes {
		found := map[string][]string{}
		for name, mail := range corpus.Mails(t) {
			after, files := rewritten(t, mail, minSize)
			c := &comparison{files: files, minSize: minSize}
			c.before.python = r.python.Parse(t, mail, python.Want{Seen: true})
			c.after.python = r.python.Parse(t, after, python.Want{Seen: true})
			if c.before.python.Root == nil || c.after.python.Root == nil {
				continue
			}
			for _, class := range c.classes(minSize) {
				found[class] = append(found[class], name)
			}
		}
		t.Logf("from %d bytes on:", minSizes[i])
		for _, class := range slices.Sorted(maps.Keys(found)) {
			t.Logf("%5d %s: %s", len(found[class]), class, strings.Join(found[class][:min(3, len(found[class]))], " "))
		}
	}
}

// classes returns the classes that the mail belongs to.
func (c *comparison) classes(minSize int64) []string {
	classes := map[string]bool{}
	if len(c.files) > 0 {
		classes["rewritten"] = true
		if single(c.after.python.Root) && !single(c.before.python.Root) {
			classes["a multipart/mixed with a single part is left"] = true
		}
		if c.parts(); slices.ContainsFunc(c.complaints, func(m complaint) bool { return m.rule == "python: notice in a file" }) {
			classes["the notice stands in a file"] = true
		}
		if c.complaints = nil; c.hides(c.after.python.Root) != nil {
			classes["a rendering has no link"] = true
		}
	}
	gone := c.detached()
	stays := func(p *python.Part) bool {
		return slices.ContainsFunc(c.after.python.Leaves(), func(a *python.Part) bool { return sameLeaf(p, a) })
	}
	leaves := c.before.python.Leaves()
	for _, p := range leaves {
		class := keptClass(p)
		switch {
		case gone[p.SHA256] > 0 && !stays(p):
			class = c.goneClass(p, leaves)
		case p.Size < minSize || isClosed(p):
			class = ""
		}
		if class != "" {
			classes[class] = true
		}
	}
	for _, f := range c.files {
		if strings.Contains(f.name, "=?") {
			classes["a name with an encoded word as it stands"] = true
		}
	}
	return slices.Collect(maps.Keys(classes))
}

var cryptoName = regexp.MustCompile(`(?i)\.(p7[mscz]|asc|pgp|gpg|sig|sign)$`)

// goneClass returns the class of a part that was detached, or "".
func (c *comparison) goneClass(p *python.Part, all []*python.Part) string {
	switch {
	case len(p.ShownBy) > 0 && p.Location != "" && p.CID == "":
		return "gone: a picture that the HTML shows by its Content-Location"
	case len(p.ShownBy) > 0:
		return "gone: a picture that the HTML shows by its Content-ID"
	case strings.HasPrefix(p.Type, "text/") && p.Named && strings.TrimSpace(p.Name) == "" && p.Disposition != "attachment":
		return "gone: a text whose name is blank"
	case p.Type == "application/octet-stream" && strings.HasSuffix(strings.ToLower(p.Name), ".p7m"):
		return "gone: S/MIME"
	case slices.ContainsFunc(all, func(s *python.Part) bool { return s.Type == "application/pgp-encrypted" }):
		return "gone: PGP ciphertext"
	case slices.ContainsFunc(all, func(s *python.Part) bool { return signs(s, p) && c.detached()[s.SHA256] == 0 }):
		return "gone: a file beside its detached signature"
	case p.Type == "application/ics" && slices.ContainsFunc(all, func(s *python.Part) bool { return s.Type == "text/calendar" }):
		return "gone: application/ics beside text/calendar"
	case p.Type == "text/rfc822-headers", p.Type == "application/autocrypt-setup":
		return "gone: " + p.Type
	}
	return ""
}

// keptClass returns the class of a part that was kept, or "".
func keptClass(p *python.Part) string {
	above := strings.Join(p.Above, " ")
	defects := above + " " + strings.Join(p.Defects, " ")
	file := p.Disposition == "attachment" || strings.TrimSpace(p.Name) != "" && !strings.HasPrefix(p.Type, "text/")
	switch {
	case !file || len(p.ShownBy) > 0 || cryptoName.MatchString(p.Name):
		return ""
	case strings.Contains(above, "message/"):
		return "kept: a file in a forwarded message"
	case strings.Contains(defects, "CloseBoundaryNotFound"), strings.Contains(defects, "StartBoundaryNotFound"):
		return "kept: no closing delimiter"
	case strings.Contains(defects, "InvalidBase64"):
		return "kept: base64 with a defect"
	case strings.Contains(p.Encoding, "uu"):
		return "kept: uuencode"
	case len(slices.Compact(slices.Clone(p.Fields))) < len(p.Fields):
		return "kept: a field that stands twice"
	case len(p.Above) == 0:
		return "kept: a file that is the whole mail"
	case strings.HasPrefix(p.Above[len(p.Above)-1], "multipart/alternative"):
		return "kept: a file in multipart/alternative"
	case p.CID != "" && strings.Contains(above, "multipart/related"):
		return "kept: a part with a Content-ID in multipart/related"
	case strings.HasPrefix(p.Type, "text/"):
		return "kept: a text that is marked as a file"
	}
	return "kept: other"
}

// isClosed reports whether a part belongs to what never changes.
func isClosed(p *python.Part) bool {
	for _, kind := range []string{"multipart/signed", "multipart/encrypted", "multipart/report", "multipart/appledouble", "multipart/digest"} {
		if strings.Contains(strings.Join(p.Above, " "), kind) {
			return true
		}
	}
	main, sub, _ := strings.Cut(p.Type, "/")
	return main == "message" || p.Type == "text/calendar" || strings.Contains(sub, "pkcs7-") || strings.HasPrefix(sub, "pgp-") || strings.HasSuffix(sub, "ms-tnef")
}

// single reports whether there is a multipart/mixed with one part.
func single(p *python.Part) bool {
	return p.Type == "multipart/mixed" && len(p.Parts) == 1 || slices.ContainsFunc(p.Parts, single)
}
