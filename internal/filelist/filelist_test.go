package filelist

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/filename"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var update = flag.Bool("update", false, "write docs/vectors/files.json anew")

// vectorFile is read by e2e/format too.
const vectorFile = "../../docs/vectors/files.json"

// vector is one case of the file.
type vector struct {
	Why    string        `json:"why"`
	List   string        `json:"list"`
	Expect string        `json:"expect"` // ok, or invalid
	Files  []vectorEntry `json:"files,omitempty"`
}

type vectorEntry struct {
	CID      string `json:"cid"`
	Fragment string `json:"fragment"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Size     int64  `json:"size"`
	CRC32    uint32 `json:"crc32"`
}

func testLink(seed int) link.Link {
	sum := sha256.Sum256(fmt.Append(nil, seed))
	hash, hashErr := multihash.Encode(sum[:], multihash.SHA2_256)
	sum = sha256.Sum256(sum[:])
	f, err := crypto.FragmentFromBytes(sum[:])
	if err = errors.Join(hashErr, err); err != nil {
		panic(err)
	}
	return link.Link{Base: "https://files.example.org", CID: cid.NewCidV1(cid.DagProtobuf, hash), Fragment: f}
}

func good() []File {
	return []File{
		{testLink(1), "grüße <1>.txt", "text/plain", 15, 0xa1b2c3d4},
		{testLink(2), "", "application/octet-stream", 0, 0},
		{testLink(3), "../film.mkv", "video/x-matroska", 5 << 30, 0x0000000f},
	}
}

func marshal(t testing.TB, fs []File) string {
	t.Helper()
	b, err := Marshal(fs)
	must.Succeed(t, err)
	return string(b)
}

func vectors(t testing.TB) []vector {
	list := marshal(t, good())
	edit := func(why, old, new string) vector {
		s := strings.Replace(list, old, new, 1)
		if s == list {
			t.Fatalf("%s: the list has no %q", why, old)
		}
		return vector{Why: why, List: s, Expect: "invalid"}
	}
	ok := func(v vector, fs []File) vector {
		v.Expect = "ok"
		for _, f := range fs {
			v.Files = append(v.Files, vectorEntry{f.Link.CID.String(), f.Link.Fragment.Encode(), f.Name, f.Type, f.Size, f.CRC32})
		}
		return v
	}
	toAll := testLink(1)
	toAll.All = true
	return []vector{
		ok(vector{Why: "three files", List: list}, good()),
		ok(edit("members of a later version", `"version":1`, `"version":1,"more":{"x":[1]}`), good()),
		{Why: "a single file", List: list[:strings.Index(list, "},{")] + "}]}", Expect: "invalid"},
		{Why: "no files", List: `{"version":1,"files":[]}`, Expect: "invalid"},
		{Why: "nothing", Expect: "invalid"},
		{Why: "no end", List: list[:len(list)-3], Expect: "invalid"},
		edit("another version", `"version":1`, `"version":2`),
		edit("files that are no array", `"files":[`, `"files":3,"x":[`),
		edit("a file twice", testLink(2).URL(), testLink(1).URL()),
		edit("one object under two keys", testLink(2).CID.String(), testLink(1).CID.String()),
		edit("another gateway", testLink(2).URL(), strings.Replace(testLink(2).URL(), "files.", "evil.", 1)),
		edit("the link of a list", testLink(1).URL(), toAll.URL()),
		edit("a link that is none", testLink(1).URL(), "https://files.example.org/"),
		edit("a link that would have to be repaired", testLink(1).URL(), strings.Replace(testLink(1).URL(), "#", "%23", 1)),
		edit("something after a link", testLink(1).URL(), testLink(1).URL()+" and more"),
		edit("a size of less than nothing", `"size":15`, `"size":-15`),
		edit("a size that is no integer", `"size":15`, `"size":1.5`),
		edit("a size over all sizes", `"size":15`, `"size":1099511627777`),
		edit("a CRC of seven digits", "a1b2c3d4", "a1b2c3d"),
		edit("a CRC in capitals", "a1b2c3d4", "A1B2C3D4"),
		edit("a CRC that no empty file has", "00000000", "00000001"),
		edit("a CRC with a sign", "a1b2c3d4", "+1b2c3d4"),
		edit("a name without end", "grüße", strings.Repeat("ü", filename.MaxText)),
		edit("a type without end", "text/plain", strings.Repeat("x", filename.MaxText+1)),
		edit("a type that is no text", `"text/plain"`, `["x"]`),
	}
}

func TestVectorsAreReadAsTheySay(t *testing.T) {
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	must.Succeed(t, enc.Encode(vectors(t)))
	if *update {
		must.Succeed(t, os.WriteFile(vectorFile, want.Bytes(), 0o644))
	}
	file, err := os.ReadFile(vectorFile)
	must.Succeed(t, err)
	if !bytes.Equal(file, want.Bytes()) {
		t.Error("the file is not what this test makes: run it with -update")
	}
	var all []vector
	if err := json.Unmarshal(file, &all); err != nil || len(all) < 2 {
		t.Fatalf("%d vectors, error %v", len(all), err)
	}
	for _, v := range all {
		l, err := Read(iotest.HalfReader(strings.NewReader(v.List)))
		switch {
		case v.Expect == "ok" && (err != nil || !reflect.DeepEqual([]File(l.Files), good())):
			t.Errorf("%s: got %+v, error %v", v.Why, l, err)
		case v.Expect != "ok" && !errors.Is(err, ErrInvalid):
			t.Errorf("%s: error %v, want ErrInvalid", v.Why, err)
		}
		if err != nil && strings.Contains(err.Error(), testLink(1).Fragment.Encode()) {
			t.Errorf("%s: the error quotes a link", v.Why)
		}
	}
}

func TestExampleOfTheFormatIsTheFirstVector(t *testing.T) {
	text, err := os.ReadFile("../../docs/format.md")
	must.Succeed(t, err)
	if joined := regexp.MustCompile(`\n +`).ReplaceAllString(string(text), ""); !strings.Contains(joined, marshal(t, good())) {
		t.Error("docs/format.md has another example")
	}
}

func many(n int, name string) []File {
	fs := make([]File, n)
	for i := range fs {
		fs[i] = File{Link: testLink(i), Name: name}
	}
	return fs
}

// Marshal writes no list that Read would refuse.
func TestListsUpToTheBoundsAreRead(t *testing.T) {
	for _, tt := range []struct {
		why   string
		files []File
		want  error
	}{
		{"the fewest allowed", many(MinFiles, "x"), nil},
		{"the most allowed", many(MaxFiles, strings.Repeat("n", 200)), nil},
		{"one more", many(MaxFiles+1, "x"), ErrTooMany},
		{"names that are too long together", many(MaxFiles, strings.Repeat("\x01", filename.MaxText)), ErrTooMany},
	} {
		b, err := Marshal(tt.files)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.why, err, tt.want)
		}
		if err != nil {
			continue
		}
		if l, err := Read(bytes.NewReader(b)); err != nil || len(l.Files) != len(tt.files) {
			t.Errorf("%s: %d files read, error %v", tt.why, len(l.Files), err)
		}
	}
	for why, s := range map[string]string{
		"one file more than allowed": strings.Replace(marshal(t, many(MaxFiles, "x")), "[{", `[{"link":"`+testLink(-1).URL()+`","crc32":"00000000"},{`, 1),
		"a million empty files":      `{"version":1,"files":[` + strings.Repeat("{},", MaxSize/4) + "{}]}",
		"nothing but depth":          strings.Repeat("[", MaxSize),
		"longer than allowed":        marshal(t, good()) + strings.Repeat(" ", MaxSize),
	} {
		if _, err := Read(strings.NewReader(s)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", why, err)
		}
	}
}

func TestLongNamesAreClipped(t *testing.T) {
	fs := good()
	fs[0].Name, fs[1].Name = "x"+strings.Repeat("é", filename.MaxText), "bad\xff.pdf"
	l, err := Read(strings.NewReader(marshal(t, fs)))
	must.Succeed(t, err)
	if got, want := l.Files[0].Name, "x"+strings.Repeat("é", (filename.MaxText-1)/2); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	if got := l.Files[1].Name; got != "bad\uFFFD.pdf" {
		t.Errorf("got %q", got)
	}
}

func TestErrorOfTheSourceIsReturned(t *testing.T) {
	broken := errors.New("broken")
	if _, err := Read(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, ErrInvalid) {
		t.Errorf("error %v, want the source's", err)
	}
}

// A list that was read and is written again is the same list.
func FuzzRead(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.List)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Read(strings.NewReader(s))
		if errors.Is(err, ErrInvalid) {
			return
		}
		must.Succeed(t, err)
		b, err := Marshal(l.Files)
		if errors.Is(err, ErrTooMany) {
			return // the input was a shorter form of the same list
		}
		must.Succeed(t, err)
		if again, err := Read(bytes.NewReader(b)); err != nil || !reflect.DeepEqual(again, l) {
			t.Fatalf("written and read again the list differs: %v", err)
		}
	})
}
