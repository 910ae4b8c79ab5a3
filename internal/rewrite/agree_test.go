package rewrite

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/emersion/go-message"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/python"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// A leaf is a part without parts, as Python parses it.
type leaf struct{ *python.Part }

// leaves returns nil for a mail that Python cannot read.
func leaves(t *testing.T, py *python.Decoder, mail []byte) (all []leaf) {
	t.Helper()
	for _, p := range py.Parse(t, mail, python.Want{Raw: true}).Leaves() {
		all = append(all, leaf{p})
	}
	return all
}

// goMessage returns the SHA-256 of each leaf as go-message decodes it; ok is false if it fails.
func goMessage(mail []byte) (sums []string, ok bool) {
	defer func() { // go-message panics at two boundary parameters
		if recover() != nil {
			ok = false
		}
	}()
	e, err := message.ReadWithOptions(bytes.NewReader(mail), &message.ReadOptions{MaxHeaderBytes: -1})
	if err != nil && !message.IsUnknownCharset(err) {
		return nil, false
	}
	err = e.Walk(func(_ []int, e *message.Entity, err error) error {
		if err != nil && !message.IsUnknownCharset(err) {
			return err
		}
		if main, _, _ := strings.Cut(e.Header.Get("Content-Type"), "/"); strings.EqualFold(strings.TrimSpace(main), "multipart") {
			return nil
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, e.Body); err != nil {
			return err
		}
		sums = append(sums, hex.EncodeToString(sum.Sum(nil)))
		return nil
	})
	return sums, err == nil
}

// Python's email package and go-message find the detached parts, with the same bytes. Every part
// that must be detached by Python's reading is detached, unless whyKept names a reason.
func TestOtherParsersAgreeAboutTheCorpus(t *testing.T) {
	py := python.Start(t)
	count := map[string]int{}
	corpus.Each(t, func(t *testing.T, mail []byte) {
		d := newMemory()
		mustRewrite(t, bytes.NewReader(mail), Policy{MinSize: 1}, d)
		left := map[string]int{} // detached, and not found by Python yet
		for _, f := range d.attachments() {
			left[sum(f.content)]++
			count["detached"]++
		}
		checkGoMessage(t, mail, d.attachments(), count)
		leaves := leaves(t, py, mail)
		if leaves == nil {
			count["Python cannot read the mail"]++
			return
		}
		for i, l := range leaves {
			due, perhaps := l.due(leaves)
			if l.CID != "" && refersToCID(mail, l.CID) {
				count["the HTML refers to it"]++
				continue
			}
			if html := slices.ContainsFunc(leaves[:i], func(b leaf) bool { return b.Type == "text/html" }); !html && slices.Contains(l.Above, "multipart/related") && (l.CID != "" || slices.Contains(l.Fields, "content-location")) {
				count["in multipart/related, before any HTML"]++
				continue
			}
			if due {
				count["to be detached, as Python sees it"]++
			}
			if (due || perhaps) && left[l.SHA256] > 0 {
				left[l.SHA256]--
				count["the same in Python"]++
				continue
			}
			if !due {
				continue
			}
			reason := whyKept(l, mail)
			count["kept: "+reason]++
			if reason == "" {
				t.Errorf("missed: %s, %s, %d bytes, in %q, %s", l.Type, l.Encoding, l.Size, l.Above, l.Defects)
			}
		}
		for sum, n := range left {
			if n > 0 {
				t.Errorf("detached, but must be kept by Python's reading: %s", sum)
			}
		}
	})
	if count["the same in Python"] < 400 {
		t.Errorf("%d files compared, want at least 400", count["the same in Python"])
	}
	for _, k := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%6d %s", count[k], k)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func checkGoMessage(t *testing.T, mail []byte, detached []file, count map[string]int) {
	t.Helper()
	sums, ok := goMessage(mail)
	if !ok {
		count["mails that go-message cannot read"]++
		return
	}
	for _, f := range detached {
		switch i := slices.Index(sums, sum(f.content)); {
		case i >= 0:
			sums = slices.Delete(sums, i, i+1)
			count["the same in go-message"]++
		case strings.HasPrefix(f.mediaType, "text/") && bytes.ContainsFunc(f.content, func(r rune) bool { return r >= utf8.RuneSelf }):
			count["in another charset in go-message, which decodes texts"]++
		default:
			t.Errorf("detached, but not in go-message: %s, %d bytes", f.mediaType, len(f.content))
		}
	}
}

// due repeats the table of what is detached, for Python's reading. perhaps is true for parts that
// may be detached or kept: a text with a name may be the message's own text, and a signature may be
// that of the parts beside it.
func (l *leaf) due(all []leaf) (due, perhaps bool) {
	attached := l.Disposition == "attachment"
	for i, above := range l.Above {
		switch kind, _, _ := strings.Cut(above, " "); {
		case strings.HasPrefix(kind, "message/"), slices.Contains([]string{"multipart/signed", "multipart/encrypted", "multipart/report", "multipart/appledouble", "multipart/digest"}, kind):
			return false, false
		case kind == "multipart/alternative" && i == len(l.Above)-1 && !attached:
			return false, false
		}
	}
	main, sub, _ := strings.Cut(l.Type, "/")
	switch {
	case l.Size == 0, main == "message", main == "multipart", l.Type == "text/calendar", l.Type == "text/rfc822-headers", strings.Contains(sub, "pkcs7-"),
		strings.HasPrefix(sub, "pgp-"), strings.HasSuffix(sub, "ms-tnef"), main == "text" && !attached && !l.Named:
		return false, false
	case slices.ContainsFunc(all, l.isBeside), l.Type == "application/ics":
		return false, true
	case l.Type == "text/plain", l.Type == "text/html":
		return attached, true
	}
	return true, true
}

// isBeside reports whether s is the signature, or the mark of a PGP message, that makes l a part
// which must not change.
func (l *leaf) isBeside(s leaf) bool {
	mark := strings.HasSuffix(s.Type, "-signature") || s.Type == "application/pgp-encrypted"
	return mark && len(s.Above) <= len(l.Above) && slices.Equal(s.Above, l.Above[:len(s.Above)])
}

// whyKept returns the reason to keep a part that is due, or "".
func whyKept(l leaf, mail []byte) string {
	defects := strings.Join(append(l.Above, l.Defects...), " ")
	switch {
	case bytes.Contains(mail, []byte(skeleton.Field+":")):
		return "rewritten already"
	case strings.Contains(defects, "CloseBoundaryNotFound"), strings.Contains(defects, "StartBoundaryNotFound"):
		return "missing boundary"
	case len(slices.Compact(slices.Clone(l.Fields))) < len(l.Fields):
		return "field that stands twice"
	case boundaryTwice(mail):
		return "one boundary on two levels"
	case strings.Contains(defects, "MissingHeaderBodySeparator"), strings.Contains(defects, "HeaderDefect"), strings.Contains(defects, "FirstHeaderLine"):
		return "unparsable header"
	case !transfer.Known(l.Encoding):
		return "unknown transfer encoding"
	case l.Encoding == "base64" || l.Encoding == "quoted-printable":
		d := transfer.NewExact(l.Encoding, nil)
		defer d.Close()
		_, err := d.Decode(nil, append(l.Raw, "\r\n"...))
		if err == nil {
			_, err = d.Finish(nil, true)
		}
		if err != nil {
			return "damaged " + l.Encoding
		}
	}
	return ""
}

var anyBoundary = regexp.MustCompile(`(?i)boundary="([^"]+)"`)

// boundaryTwice reports whether two multiparts have one boundary.
func boundaryTwice(mail []byte) bool {
	found := map[string]bool{}
	for _, m := range anyBoundary.FindAllSubmatch(mail, -1) {
		if found[string(m[1])] {
			return true
		}
		found[string(m[1])] = true
	}
	return false
}

// refersToCID looks for a reference in a raw mail, whose HTML may be quoted-printable.
func refersToCID(mail []byte, id string) bool {
	mail = bytes.ReplaceAll(bytes.ReplaceAll(mail, []byte("=\r\n"), nil), []byte("=\n"), nil)
	return bytes.Contains(mail, []byte("cid:"+strings.Trim(strings.TrimSpace(id), "<>")))
}
