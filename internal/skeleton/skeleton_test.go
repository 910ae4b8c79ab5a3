package skeleton

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

var update = flag.Bool("update", false, "write docs/vectors/skeleton.json anew")

// vectorFile is read by e2e/format too.
const vectorFile = "../../docs/vectors/skeleton.json"

// vector is one case of the file; its bytes are base64.
type vector struct {
	Why         string            `json:"why"`
	Skeleton    []byte            `json:"skeleton"`
	Attachments map[string][]byte `json:"attachments"` // by CID
	Expect      string            `json:"expect"`      // ok, or invalid
	Message     []byte            `json:"message,omitempty"`
	Received    []byte            `json:"received,omitempty"` // what Message was before fields were omitted
}

func testLink(seed byte) link.Link {
	id, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}.Sum([]byte{seed})
	f, err2 := crypto.FragmentFromBytes(bytes.Repeat([]byte{seed}, 32))
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	return link.Link{Base: "https://files.example.org", CID: id, Fragment: f}
}

const message = "Subject: three files\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n" +
	"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8sIERl \r\ndGFjaCENCg==\r\n\r\n" +
	"--b\r\nContent-Type: application/x-raw\r\n\r\nbytes as they are\n\r\n--b--\r\n"

// received is message with the fields that an encoder must omit.
var received = "Return-Path: <ann@example.org>\r\nBCC:\r\n carl@example.org,\r\n\tdora@example.org\r\n" +
	strings.Replace(message, "Content-Type", "Content-Length: 17\r\nresent-bcc: eve@example.org\r\nContent-Type", 1)

// good returns the skeleton of message, and the attachments by CID.
func good(t testing.TB) (string, map[string][]byte) {
	t.Helper()
	one, two := testLink(1), testLink(2)
	before, first, middle := cutAt(message, "SGVs", "\r\n--b\r\nContent-Type: application")
	between, second, after := cutAt(message[len(before)+len(first):], "bytes as", "--b--")
	if first == "" || second == "" || middle == "" {
		t.Fatal("the message has no attachments")
	}
	made := write(t, message, Piece{Text: strings.NewReader(before), Length: int64(len(before)), Cut: &Cut{Link: one.URL(), Layout: transfer.Layout{
		Encoding: transfer.Base64, Lines: []transfer.Run{{Len: 12, End: " \r\n", Count: 1}, {Len: 12, End: "\r\n", Count: 1}}}}},
		Piece{Text: strings.NewReader(between), Length: int64(len(between)), Cut: &Cut{Link: two.URL(), Layout: transfer.Layout{Encoding: transfer.Identity, Tail: "\r\n"}}},
		Piece{Text: strings.NewReader(after), Length: int64(len(after))})
	return made, map[string][]byte{one.CID.String(): []byte("Hello, Detach!\r\n"), two.CID.String(): []byte("bytes as they are\n")}
}

// cutAt returns s before from, between from and to, and from to on.
func cutAt(s, from, to string) (before, between, after string) {
	i, j := strings.Index(s, from), strings.Index(s, to)
	return s[:i], s[i:j], s[j:]
}

// write returns the skeleton of a message.
func write(t testing.TB, message string, pieces ...Piece) string {
	t.Helper()
	sum := NewSum()
	io.WriteString(sum, message)
	b, err := io.ReadAll(NewReader(int64(len(message)), sum, func() Piece {
		p := pieces[0]
		pieces = pieces[1:]
		return p
	}))
	must.Succeed(t, err)
	return string(b)
}

func opener(attachments map[string][]byte) Opener {
	return func(_ context.Context, l link.Link, encoded bool) (io.ReadCloser, error) {
		name := l.CID.String()
		if encoded {
			name += "/encoded"
		}
		content, ok := attachments[name]
		if !ok {
			return nil, errMissing
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
}

var errMissing = errors.New("not found")

func restore(s []byte, open Opener) (string, error) {
	m, err := Open(bytes.NewReader(s))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = m.Restore(context.Background(), &out, open)
	return out.String(), err
}

func vectors(t *testing.T) []vector {
	whole, attachments := good(t)
	made := func(why, s string) vector {
		return vector{Why: why, Skeleton: []byte(s), Attachments: attachments, Expect: "invalid"}
	}
	edit := func(why, old, new string) vector {
		s := strings.Replace(whole, old, new, 1)
		if s == whole {
			t.Fatalf("%s: %q is not there", why, old)
		}
		return made(why, s)
	}
	other := map[string][]byte{testLink(1).CID.String(): []byte("Hello, Detach?\r\n"), testLink(2).CID.String(): []byte("bytes as they are\n")}
	short := map[string][]byte{testLink(1).CID.String(): []byte("Hello"), testLink(2).CID.String(): []byte("bytes as they are\n")}
	head, rest, _ := strings.Cut(whole, "\n")
	first, _, _ := strings.Cut(rest, "\n")
	all := []vector{
		{"a message with two attachments", []byte(whole), attachments, "ok", []byte(message), nil},
		{"fields that no delivered mail has", []byte(whole), attachments, "ok", []byte(message), []byte(received)},
		{"a message of no bytes", []byte(write(t, "", Piece{Text: strings.NewReader("")})), map[string][]byte{}, "ok", []byte{}, nil},
		edit("another version", `"version":1`, `"version":2`),
		edit("another size", fmt.Sprintf(`"size":%d`, len(message)), fmt.Sprintf(`"size":%d`, len(message)+1)),
		edit("a size of less than nothing", `"size":`, `"size":-`),
		edit("two sizes", `"crc32c"`, `"size":1,"crc32c"`),
		edit("the size not in its place", `{"version":1,`, `{"version":1 ,`),
		edit("a byte that was another", "Hello\r\n", "Hallo\r\n"),
		edit("a byte less", "--b--\r\n", "--b--\r"),
		edit("a byte more", "--b--\r\n", "--b--\r\n\n"),
		edit("a length beyond the end", `"length":1`, `"length":9991`),
		edit("a length of less than nothing", `"length":1`, `"length":-1`),
		edit("no last piece", `{"length":7}`+"\n--b--\r\n", ""),
		edit("lines of negative length", `"len":12`, `"len":-12`),
		edit("no lines", `"count":1`, `"count":0`),
		edit("fewer lines than before none", `"count":1`, `"count":-1`),
		edit("more lines than characters", `"count":1`, `"count":9000000000000000000`),
		edit("empty lines without end", `"len":12,"end":" \r\n","count":1`, `"len":0,"end":"","count":9000000000000000000`),
		edit("blank lines without end", `"len":12,"end":" \r\n","count":1`, `"len":0,"end":"\n","count":9000000000000000000`),
		edit("a number over all numbers", `"count":1`, `"count":99999999999999999999`),
		edit("text for a line end", `" \r\n"`, `"x\r\n"`),
		edit("a line end too long", `" \r\n"`, `"`+strings.Repeat(" ", transfer.MaxLineEnd)+`\r\n"`),
		edit("another encoding", `"identity"`, `"zip"`),
		edit("lines of another encoding", `"identity"`, `"identity","lines":[{"len":1,"end":"\n","count":1}]`),
		edit("text for a tail", `"tail":"\r\n"`, `"tail":"x"`),
		edit("one attachment twice", testLink(2).URL(), testLink(1).URL()),
		edit("a link that is none", testLink(2).URL(), "https://files.example.org/"),
		edit("the link of all files", testLink(2).URL(), strings.Replace(testLink(2).URL(), "#", "/all#", 1)),
		edit("more runs of lines than a layout has", `"lines":[`, `"lines":[`+strings.Repeat(`{"len":1,"end":"\n","count":1},`, transfer.MaxRuns)),
		edit("more values than a line has", `"lines":[`, `"lines":[`+strings.Repeat("0,", maxValues)),
		edit("a line too long", `"lines":`, strings.Repeat(" ", maxLine)+`"lines":`),
		{"an attachment that was another", []byte(whole), other, "invalid", nil, nil},
		{"an attachment that was longer", []byte(whole), short, "invalid", nil, nil},
		made("no first line", rest),
		made("nothing", ""),
		made("no end of the first line", head),
		made("no end of the second line", head+"\n"+first),
	}
	return slices.Concat(all, base64Vectors(t), quotedVectors(t))
}

// oneAttachment returns the vector of a message with one attachment, which is that of testLink(3).
func oneAttachment(t *testing.T, why, encoding string, content, encoded []byte, layout transfer.Layout, expect string) vector {
	l, before, after := testLink(3), "Content-Transfer-Encoding: "+encoding+"\r\n\r\n", "\r\n--b--\r\n"
	name := l.CID.String()
	v := vector{Why: why, Attachments: map[string][]byte{name: content}, Expect: expect}
	whole := before + string(encoded) + after
	if layout.Encoding == transfer.Encoded {
		v.Attachments[name+"/encoded"] = encoded
	}
	v.Skeleton = []byte(write(t, whole, Piece{Text: strings.NewReader(before), Length: int64(len(before)), Cut: &Cut{Link: l.URL(), Layout: layout}},
		Piece{Text: strings.NewReader(after), Length: int64(len(after))}))
	if expect == "ok" {
		v.Message = []byte(whole)
	}
	return v
}

// base64Vectors are of messages with one attachment in base64 that no encoder writes.
func base64Vectors(t *testing.T) (all []vector) {
	add := func(why, content, encoded string, tail string, expect string, runs ...transfer.Run) {
		layout := transfer.Layout{Encoding: transfer.Base64, Lines: runs, Tail: tail}
		all = append(all, oneAttachment(t, why, "base64", []byte(content), []byte(encoded), layout, expect))
	}
	run := func(n int, end string) transfer.Run { return transfer.Run{Len: n, End: end, Count: 1} }
	add("base64 without padding", "Hello", "SGVsbG8", "bG8", "ok", run(7, ""))
	add("base64 with half of its padding", "Hell", "SGVsbA=", "bA=", "ok", run(7, ""))
	add("base64 with unused bits", "Hell", "SGVs\r\nbP==\r\n", "bP==", "ok", run(4, "\r\n"), run(4, "\r\n"))
	add("base64 with characters that programs skip", "Hello", "> SG*Vs\r\n=\r\n> bG8=\x00==", "", "ok",
		run(0, "> "), run(2, "*"), run(2, "\r\n=\r\n> "), run(4, "\x00=="))
	add("base64 with the tail of other bytes", "Hello", "SGVsbA==", "bA==", "invalid", run(8, ""))
	add("base64 with a tail of five characters", "Hello", "SGVsbG8==", "bG8==", "invalid", run(9, ""))
	add("base64 with skipped characters beyond ASCII", "Hel", "SGVs\u00e9", "", "invalid", run(4, "\u00e9"))
	return all
}

// quotedVectors are of messages with one attachment in quoted-printable.
func quotedVectors(t *testing.T) (all []vector) {
	add := func(why string, content, encoded []byte, layout transfer.Layout, expect string) {
		all = append(all, oneAttachment(t, why, "quoted-printable", content, encoded, layout, expect))
	}
	const text = "Grüße,\tFrom A to B:\r\n.dot, a=b, and a line that is so long that it has to be broken somewhere, as 100 % of them\r\n" +
		"blank \r\nFrom here on it has two blanks  \r\n12345678901234567890123456789012345678901234567890123456789012345678901234ü\r\nend"
	good := transfer.Layout{Encoding: transfer.Quoted, Rule: &transfer.Rule{CRLF: true, Soft: "\r\n"}}
	rule := func(change func(*transfer.Layout)) (transfer.Layout, []byte) {
		layout := good
		r := *good.Rule
		layout.Rule = &r
		change(&layout)
		var encoded bytes.Buffer
		layout.Encode(&encoded, strings.NewReader(text)) // a malformed layout may fail
		return layout, encoded.Bytes()
	}
	for why, change := range map[string]func(*transfer.Layout){
		"filled lines":             func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "fill", Limit: 75} },
		"filled lines, lower case": func(l *transfer.Layout) { l.Rule.Lower, l.Rule.Break = true, transfer.Break{Kind: "fill", Limit: 40} },
		"lines with a last column": func(l *transfer.Layout) {
			l.Rule.Break = transfer.Break{Kind: "fill", Limit: 73, Last: 1, LastEscape: 1, Late: true}
		},
		"characters in one piece": func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "fill", Limit: 75, Unit: "utf-8"} },
		"characters of PHP":       func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "fill", Limit: 75, Unit: "php"} },
		"words":                   func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "word", Limit: 40, Last: 1} },
		"columns":                 func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "column", Limit: 73, Eager: true} },
		"escaped line ends": func(l *transfer.Layout) {
			l.Rule.CRLF, l.Rule.Break = false, transfer.Break{Kind: "fill", Limit: 75, AfterLF: true}
		},
		"starts of lines and more": func(l *transfer.Layout) { l.Rule.Start, l.Rule.Escape, l.Rule.Trail = ".F", "\t:", true },
		"exceptions": func(l *transfer.Layout) {
			l.Exceptions = []transfer.Exception{{At: 4, Soft: true, Escaped: true}, {At: 10, Soft: true}}
		},
		"a tail": func(l *transfer.Layout) { l.Tail = "=\r\n" },
	} {
		layout, encoded := rule(change)
		add("quoted-printable by rule: "+why, []byte(text), encoded, layout, "ok")
	}
	for why, change := range map[string]func(*transfer.Layout){
		"no rule": func(l *transfer.Layout) { l.Rule = nil },
		"too many exceptions": func(l *transfer.Layout) {
			l.Exceptions = make([]transfer.Exception, transfer.MaxExceptions+1)
			for i := range l.Exceptions {
				l.Exceptions[i].At = int64(i)
			}
		},
		"exceptions out of order": func(l *transfer.Layout) { l.Exceptions = []transfer.Exception{{At: 4}, {At: 4}} },
		"an exception beyond the end": func(l *transfer.Layout) {
			l.Exceptions = []transfer.Exception{{At: 9999, Escaped: true}}
		},
		"a way to break lines that is none": func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "stretch", Limit: 75} },
		"a limit over all limits":           func(l *transfer.Layout) { l.Rule.Break = transfer.Break{Kind: "fill", Limit: 1 << 20} },
		"text for a soft line break":        func(l *transfer.Layout) { l.Rule.Soft = "x" },
		"a letter that is none":             func(l *transfer.Layout) { l.Rule.Escape = "\n" },
		"text for a tail":                   func(l *transfer.Layout) { l.Tail = "x" },
	} {
		layout, encoded := rule(change)
		add("quoted-printable by rule: "+why, []byte(text), encoded, layout, "invalid")
	}
	slices.SortFunc(all, func(a, b vector) int { return strings.Compare(a.Why, b.Why) })
	add("an encoded form", []byte("odd"), []byte("=6f=64= \r\n=6Ft"), transfer.Layout{Encoding: transfer.Encoded}, "ok")
	add("a rule for an encoded form", []byte("odd"), []byte("odd"), transfer.Layout{Encoding: transfer.Encoded, Rule: good.Rule}, "invalid")
	return all
}

// Each vector in the file has the result it announces.
func TestVectors(t *testing.T) {
	want, err := json.MarshalIndent(vectors(t), "", "  ")
	must.Succeed(t, err)
	want = append(want, '\n')
	if *update {
		must.Succeed(t, os.WriteFile(vectorFile, want, 0o644))
	}
	file, err := os.ReadFile(vectorFile)
	must.Succeed(t, err)
	if !bytes.Equal(file, want) {
		t.Errorf("%s is out of date: run this test with -update", vectorFile)
	}
	var all []vector
	if err := json.Unmarshal(file, &all); err != nil || len(all) < 2 {
		t.Fatalf("%d vectors, error %v", len(all), err)
	}
	for _, v := range all {
		got, err := restore(v.Skeleton, opener(v.Attachments))
		switch {
		case v.Expect == "ok" && (err != nil || got != string(v.Message)):
			t.Errorf("%s: got %q, error %v", v.Why, got, err)
		case v.Expect != "ok" && !errors.Is(err, ErrInvalid):
			t.Errorf("%s: error %v, want ErrInvalid", v.Why, err)
		case int64(len(got)) > announced(v.Skeleton):
			t.Errorf("%s: wrote %d bytes, more than announced", v.Why, len(got))
		}
		if err != nil && strings.Contains(err.Error(), testLink(1).Fragment.Encode()) {
			t.Errorf("%s: the error quotes a link", v.Why)
		}
	}
}

// The size is known from the beginning, whatever follows it.
func TestSizeIsReadFromTheBeginning(t *testing.T) {
	whole, _ := good(t)
	_, rest, _ := strings.Cut(whole, "\n")
	r := strings.NewReader(whole)
	if n, err := ReadSize(iotest.OneByteReader(r)); err != nil || n != int64(len(message)) || r.Len() < len(whole)-64 {
		t.Errorf("size %d, error %v, %d of %d bytes unread; want %d, from at most 64 bytes", n, err, r.Len(), len(whole), len(message))
	}
	for _, bad := range []string{
		"", "{", rest, strings.Replace(whole, `"version":1`, `"version":2`, 1), strings.Replace(whole, `"size":`, `"size":-`, 1),
		`{"size":1,"version":1,"crc32c":"00000000"}`, `{"version":1,"size":1`, `{"version":1,"size":` + strings.Repeat("9", 99) + `,`,
	} {
		if n, err := ReadSize(strings.NewReader(bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.40q: size %d, error %v, want ErrInvalid", bad, n, err)
		}
	}
	broken := errors.New("broken")
	if _, err := ReadSize(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("broken source: error %v, want the source's", err)
	}
}

// announced returns the size in a skeleton, or 0.
func announced(s []byte) int64 {
	size, _ := ReadSize(bytes.NewReader(s))
	return size
}

func TestErrorsOfOpenerAndSourceAreReturned(t *testing.T) {
	whole, attachments := good(t)
	delete(attachments, testLink(2).CID.String())
	if _, err := restore([]byte(whole), opener(attachments)); !errors.Is(err, errMissing) {
		t.Errorf("missing attachment: error %v, want the opener's", err)
	}
	broken := errors.New("broken")
	if _, err := Open(io.MultiReader(strings.NewReader(`{"version`), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("broken source: error %v, want the source's", err)
	}
}

// The runs of all attachments are bounded together, and so is the number of attachments.
func TestCutsAreBounded(t *testing.T) {
	restored := func(cuts, runs int) error {
		content := strings.Repeat("QQ==\n", runs)
		layout := transfer.Layout{Encoding: transfer.Base64, Lines: slices.Repeat([]transfer.Run{{Len: 4, End: "\n", Count: 1}}, runs)}
		if runs == 0 {
			content, layout = "A", transfer.Layout{Encoding: transfer.Identity}
		}
		i := 0
		sum := NewSum()
		io.WriteString(sum, strings.Repeat(content, cuts))
		r := NewReader(int64(cuts*len(content)), sum, func() Piece {
			p := Piece{Text: strings.NewReader("")}
			if i++; i <= cuts {
				l := testLink(1)
				l.CID = cid.NewCidV1(cid.DagProtobuf, testHash(i))
				p.Cut = &Cut{Link: l.URL(), Layout: layout}
			}
			return p
		})
		m, err := Open(r)
		must.Succeed(t, err)
		return m.Restore(t.Context(), io.Discard, func(context.Context, link.Link, bool) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("A", max(1, runs)))), nil
		})
	}
	// The base64 of more than one byte is no sequence of "QQ==", so only one run fits here.
	for _, tt := range []struct {
		cuts, runs int
		ok         bool
	}{{MaxRuns, 1, true}, {MaxRuns + 1, 1, false}, {MaxCuts, 0, true}, {MaxCuts + 1, 0, false}} {
		if err := restored(tt.cuts, tt.runs); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%d attachments with %d runs: %v, want success %v", tt.cuts, tt.runs, err, tt.ok)
		}
	}
}

func testHash(i int) multihash.Multihash {
	h, err := multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return h
}

// Restoring holds one cut at a time, whatever the message has.
func TestRestoringTakesLittleMemory(t *testing.T) {
	if maxLine > 64<<10 {
		t.Errorf("a line has up to %d bytes", maxLine)
	}
	longest := transfer.Layout{Encoding: transfer.Base64, Tail: "AA=="}
	for range transfer.MaxRuns + 1 {
		longest.Lines = append(longest.Lines, transfer.Run{Len: 1 << 30, End: strings.Repeat("\x01", transfer.MaxLineEnd), Count: 1 << 30})
	}
	quoted := transfer.Layout{Encoding: transfer.Quoted, Tail: strings.Repeat("\t", 2048), Rule: &transfer.Rule{
		Escape: "&<>", Start: "&<>", Soft: "\r\n", Break: transfer.Break{Kind: "column", Limit: 100, Unit: "utf-8", Last: 1, LastEscape: 1, Late: true, Eager: true, AfterLF: true}}}
	for i := range transfer.MaxExceptions {
		quoted.Exceptions = append(quoted.Exceptions, transfer.Exception{At: 1<<40 + int64(i), Soft: true, Escaped: true})
	}
	for _, layout := range []transfer.Layout{longest, quoted} {
		must.Succeed(t, layout.Check())
		s := write(t, "", Piece{Text: strings.NewReader(""), Cut: &Cut{Link: testLink(1).URL(), Layout: layout}}, Piece{Text: strings.NewReader("")})
		m, err := Open(strings.NewReader(s))
		must.Succeed(t, err)
		if _, err := m.piece(&limits{cuts: map[uint64]bool{}}); err != nil {
			t.Errorf("the longest layout in %s: %v", layout.Encoding, err)
		}
	}
}

// Restoring any skeleton ends, and writes at most the announced size.
func FuzzSkeleton(f *testing.F) {
	file, err := os.ReadFile(vectorFile)
	must.Succeed(f, err)
	var all []vector
	must.Succeed(f, json.Unmarshal(file, &all))
	for _, v := range all {
		f.Add(v.Skeleton)
	}
	_, attachments := good(f)
	f.Fuzz(func(t *testing.T, s []byte) {
		m, err := Open(bytes.NewReader(s))
		switch {
		case err != nil && !errors.Is(err, ErrInvalid):
			t.Fatal(err)
		case err != nil:
			return
		case m.Size() > 1<<16:
			t.Skip("announces a large message")
		}
		var out bytes.Buffer
		err = m.Restore(context.Background(), &out, opener(attachments))
		if int64(out.Len()) > m.Size() || err == nil && int64(out.Len()) != m.Size() {
			t.Fatalf("%d bytes of %d, error %v", out.Len(), m.Size(), err)
		}
	})
}
