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
var received = "Return-Path: <ann@example.org>\r\nBCC :\r\n carl@example.org,\r\n\tdora@example.org\r\n" +
	strings.Replace(message, "Content-Type", "Content-Length: 17\r\nresent-bcc: eve@example.org\r\nContent-Type", 1)

// good returns the head of message's skeleton, the rest of it, and the attachments by CID.
func good() (Head, string, map[string][]byte) {
	one, two := testLink(1), testLink(2)
	first := strings.Index(message, "SGVs")
	second := strings.Index(message, "bytes as")
	firstEnd, secondEnd := strings.Index(message, "\r\n--b\r\nContent-Type: application"), strings.Index(message, "--b--")
	rest := message[:first] + message[firstEnd:second] + message[secondEnd:]
	h := Head{Cuts: []Cut{
		{Offset: int64(first), Link: one.URL(), Layout: transfer.Layout{Encoding: transfer.Base64, Lines: []transfer.Run{{Len: 12, End: " \r\n", Count: 1}, {Len: 12, End: "\r\n", Count: 1}}}},
		{Offset: int64(first + second - firstEnd), Link: two.URL(), Layout: transfer.Layout{Encoding: transfer.Identity, Tail: "\r\n"}},
	}}
	return h, rest, map[string][]byte{one.CID.String(): []byte("Hello, Detach!\r\n"), two.CID.String(): []byte("bytes as they are\n")}
}

func line(t *testing.T, h Head) string {
	t.Helper()
	sum := NewSum()
	io.WriteString(sum, message)
	b, err := h.Line(int64(len(message)), sum)
	must.Succeed(t, err)
	return string(b)
}

func opener(attachments map[string][]byte) Opener {
	return func(_ context.Context, l link.Link) (io.ReadCloser, error) {
		content, ok := attachments[l.CID.String()]
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
	h, rest, attachments := good()
	head := line(t, h)
	edit := func(why, old, new string) vector {
		s := strings.Replace(head+rest, old, new, 1)
		if s == head+rest {
			t.Fatalf("%s: %q is not there", why, old)
		}
		return vector{Why: why, Skeleton: []byte(s), Attachments: attachments, Expect: "invalid"}
	}
	other := map[string][]byte{testLink(1).CID.String(): []byte("Hello, Detach?\r\n"), testLink(2).CID.String(): []byte("bytes as they are\n")}
	short := map[string][]byte{testLink(1).CID.String(): []byte("Hello"), testLink(2).CID.String(): []byte("bytes as they are\n")}
	empty := Head{}
	none, err := empty.Line(0, NewSum())
	must.Succeed(t, err)
	return []vector{
		{"a message with two attachments", []byte(head + rest), attachments, "ok", []byte(message), nil},
		{"fields that no delivered mail has", []byte(head + rest), attachments, "ok", []byte(message), []byte(received)},
		{"a message of no bytes", none, map[string][]byte{}, "ok", []byte{}, nil},
		edit("another version", `"version":1`, `"version":2`),
		edit("another size", fmt.Sprintf(`"size":%d`, len(message)), fmt.Sprintf(`"size":%d`, len(message)+1)),
		edit("a size of less than nothing", `"size":`, `"size":-`),
		edit("a byte that was another", "Hello\r\n", "Hallo\r\n"),
		edit("a byte less", "--b--\r\n", "--b--\r"),
		edit("a byte more", "--b--\r\n", "--b--\r\n\n"),
		edit("an offset beyond the end", `"offset":1`, `"offset":9991`),
		edit("an offset before the last", `"offset":1`, `"offset":-1`),
		edit("lines of negative length", `"len":12`, `"len":-12`),
		edit("no lines", `"count":1`, `"count":0`),
		edit("fewer lines than before none", `"count":1`, `"count":-1`),
		edit("more lines than characters", `"count":1`, `"count":9000000000000000000`),
		edit("empty lines without end", `"len":12,"end":" \r\n","count":1`, `"len":0,"end":"","count":9000000000000000000`),
		edit("blank lines without end", `"len":12,"end":" \r\n","count":1`, `"len":0,"end":"\n","count":9000000000000000000`),
		edit("a number over all numbers", `"count":1`, `"count":99999999999999999999`),
		edit("text for a line end", `" \r\n"`, `"x\r\n"`),
		edit("another encoding", `"identity"`, `"zip"`),
		edit("text for a tail", `"tail":"\r\n"`, `"tail":"x"`),
		edit("one attachment twice", testLink(2).URL(), testLink(1).URL()),
		edit("a link that is none", testLink(2).URL(), "https://files.example.org/"),
		edit("the link of all files", testLink(2).URL(), strings.Replace(testLink(2).URL(), "#", "/all#", 1)),
		{"an attachment that was another", []byte(head + rest), other, "invalid", nil, nil},
		{"an attachment that was longer", []byte(head + rest), short, "invalid", nil, nil},
		{"no head", []byte(rest), attachments, "invalid", nil, nil},
		{"nothing", nil, attachments, "invalid", nil, nil},
		{"no end of the head", []byte(strings.TrimSuffix(head, "\n")), attachments, "invalid", nil, nil},
	}
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
		case len(got) > len(message)+1:
			t.Errorf("%s: wrote %d bytes, more than announced", v.Why, len(got))
		}
		if err != nil && strings.Contains(err.Error(), testLink(1).Fragment.Encode()) {
			t.Errorf("%s: the error quotes a link", v.Why)
		}
	}
}

// The size is known from the beginning, whatever follows it.
func TestSizeIsReadFromTheBeginning(t *testing.T) {
	h, rest, _ := good()
	whole := line(t, h) + rest
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

func TestErrorsOfOpenerAndSourceAreReturned(t *testing.T) {
	h, rest, attachments := good()
	delete(attachments, testLink(2).CID.String())
	if _, err := restore([]byte(line(t, h)+rest), opener(attachments)); !errors.Is(err, errMissing) {
		t.Errorf("missing attachment: error %v, want the opener's", err)
	}
	broken := errors.New("broken")
	if _, err := Open(io.MultiReader(strings.NewReader(`{"version`), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("broken source: error %v, want the source's", err)
	}
}

// A head at its limits is accepted, and one beyond them is refused.
func TestHeadIsBounded(t *testing.T) {
	for name, s := range map[string]string{
		"a million numbers": `{"version":1,"cuts":[` + strings.Repeat("1,", 1<<20) + "1]}\n",
		"an endless line":   `{"version":1,"cuts":"` + strings.Repeat("x", maxHead) + "\"}\n",
		"only depth":        strings.Repeat("[", 1<<20) + "\n",
	} {
		if _, err := Open(strings.NewReader(s)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
	h := Head{Cuts: []Cut{{Link: testLink(1).URL(), Layout: transfer.Layout{Encoding: transfer.Base64}}}}
	for range MaxRuns {
		h.Cuts[0].Layout.Lines = append(h.Cuts[0].Layout.Lines, transfer.Run{Len: 1 << 30, End: "\r\n", Count: 1 << 30})
	}
	if _, err := Open(strings.NewReader(line(t, h))); err != nil {
		t.Errorf("MaxRuns runs: %v", err)
	}
	h.Cuts[0].Layout.Lines = append(h.Cuts[0].Layout.Lines, transfer.Run{Len: 1, End: "\n", Count: 1})
	if _, err := Open(strings.NewReader(line(t, h))); !errors.Is(err, ErrInvalid) {
		t.Errorf("MaxRuns+1 runs: error %v, want ErrInvalid", err)
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
	_, _, attachments := good()
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
