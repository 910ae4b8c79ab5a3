package rewrite

import (
	"bufio"
	"bytes"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-message/textproto"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
)

// maxSeed keeps the fuzzer fast. Small mails show the same faults as large ones.
const maxSeed = 4 << 10

// restore(rewrite(m)) = corpus.Delivered(m) for every m, and a mail with nothing to detach is
// not changed.
func FuzzRestore(f *testing.F) {
	for _, mail := range corpus.Small(f, maxSeed) {
		f.Add(mail)
	}
	f.Add([]byte("Bcc: a@b,\r\n c@d\r\nX: y\r\nreturn-path :\r\n <>\r\nRESENT-BCC: x\r\nContent-Length: 1\r\nReceived: x\r\n" + multi(abc)))
	f.Fuzz(func(t *testing.T, mail []byte) {
		restored(t, mail, Policy{MinSize: 1, Language: "auto", Restore: true, RestoreOmit: []string{"received"}})
	})
}

// The sizes of reads change neither the detached parts nor the written bytes.
func FuzzWalk(f *testing.F) {
	for i, mail := range corpus.Small(f, maxSeed) {
		f.Add(mail, uint16(i*37), uint16(i%300))
	}
	f.Fuzz(func(t *testing.T, mail []byte, split, minSize uint16) {
		p := Policy{MinSize: int64(minSize), Language: "en"}
		whole := newMemory()
		want, _ := mustRewrite(t, bytes.NewReader(mail), p, whole)
		at := min(int(split), len(mail))
		readers := []io.Reader{io.MultiReader(bytes.NewReader(mail[:at]), bytes.NewReader(mail[at:]))}
		if len(mail) < maxSeed {
			readers = append(readers, iotest.OneByteReader(bytes.NewReader(mail)))
		}
		for i, r := range readers {
			d := newMemory()
			got, _ := mustRewrite(t, r, p, d)
			if !bytes.Equal(got, want) || !reflect.DeepEqual(d.attachments(), whole.attachments()) {
				t.Fatalf("reader %d: got %d attachments and\n%q\nwant %d and\n%q", i, len(d.attachments()), got, len(whole.attachments()), want)
			}
		}
	})
}

// parseHeader and go-message find the same fields, with the same values.
func FuzzHeader(f *testing.F) {
	for _, mail := range corpus.Small(f, maxSeed) {
		f.Add(mail)
	}
	for _, s := range []string{"", "\r\n", "a", "a:", "a: b\r", "a : b\n\tc\r\n \r\nd:\n", " a: b\n", ": b\na\n", "a:b\r\r\n c\n\nd: e", "a\n b: c\n", "\u212a: b\n", "a: b\n\r", "a:\x00\xa0b \n", "a:" + strings.Repeat("b", 4094)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := parseHeader(raw)
		if len(raw) > maxHeaderBytes || bytes.Count(raw, []byte("\n")) > maxHeaderLines {
			return
		}
		// go-message refuses a last line without a line end that just fills the buffer it reads from.
		theirs, err := textproto.ReadHeader(bufio.NewReaderSize(bytes.NewReader(raw[mboxLine(raw):]), len(raw)+1))
		if h.bad != (err != nil) {
			t.Fatalf("bad is %v, go-message says %v", h.bad, err)
		}
		var ours []field
		for _, f := range h.fields {
			if len(f.name) > 0 { // go-message leaves out a field without a name
				ours = append(ours, f)
			}
		}
		for fields := theirs.Fields(); fields.Next(); ours = ours[1:] {
			if len(ours) == 0 || !ours[0].is(fields.Key()) || ours[0].value() != fields.Value() {
				t.Fatalf("%q: %q is missing in %v", fields.Key(), fields.Value(), ours)
			}
			value, unique := h.one(fields.Key())
			values := theirs.Values(fields.Key())
			first := strings.TrimSpace(values[0])
			contradicts := slices.ContainsFunc(values, func(v string) bool { return !sameValue(strings.TrimSpace(v), first) })
			if unique == contradicts || unique && value != first {
				t.Fatalf("%q is %q, %v: want %q", fields.Key(), value, unique, values)
			}
		}
		if len(ours) > 0 {
			t.Fatalf("go-message does not find %v", ours)
		}
	})
}

// paramFields returns the fields of small mails that may have a file name.
func paramFields(f *testing.F) []string {
	field := regexp.MustCompile(`(?im)^content-(?:type|disposition):(.*name.*(?:\r?\n[ \t].*)*|.*(?:\r?\n[ \t].*)*name.*)$`)
	var fields []string
	for _, mail := range corpus.Small(f, maxSeed) {
		for _, m := range field.FindAllSubmatch(mail, -1) {
			fields = append(fields, string(m[1]))
		}
	}
	return fields
}
