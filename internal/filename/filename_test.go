package filename

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// testCase is one element of testdata/names.json.
type testCase struct {
	Why, Name, Clean string
	Display          *string // nil: the same as Clean
}

func testCases(t *testing.T) (cases []testCase) {
	t.Helper()
	text, err := os.ReadFile("testdata/names.json")
	must.Succeed(t, err)
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	return cases
}

func TestNamesAreSafeToShowAndToSave(t *testing.T) {
	faults.Covers(t, 68, 84)
	for _, tt := range testCases(t) {
		if got := Clean(tt.Name); got != tt.Clean || Clean(got) != got {
			t.Errorf("%s: clean: got %q, then %q; want %q", tt.Why, got, Clean(got), tt.Clean)
		}
		want := *cmp.Or(tt.Display, &tt.Clean)
		if got := Display(tt.Name); got != want || Display(got) != got {
			t.Errorf("%s: display: got %q, then %q; want %q", tt.Why, got, Display(got), want)
		}
	}
	// This name cannot stand in JSON.
	if got, want := Clean("bad\xff\xfe.pdf"), "bad\uFFFD\uFFFD.pdf"; got != want {
		t.Errorf("invalid UTF-8: got %q, want %q", got, want)
	}
}

// The page shows the name that the server saves, and saves what it decrypts under the same name.
func TestScriptCleansNamesInTheSameWay(t *testing.T) {
	faults.Covers(t, 68, 84)
	node, err := exec.LookPath("node")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("node is not installed")
	}
	const run = `const { readFileSync } = require('node:fs');
		const detach = new Function(readFileSync('../../gateway/web/link.js', 'utf8') + '; return detach;')();
		console.log(JSON.stringify(JSON.parse(readFileSync('testdata/names.json')).map(({ name }) => detach.clean(name))));`
	out, err := exec.Command(node, "-e", run).CombinedOutput()
	var got []string
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	cases := testCases(t)
	if err != nil || len(got) != len(cases) {
		t.Fatalf("node: %v, %d names of %d\n%s", err, len(got), len(cases), out)
	}
	for i, tt := range cases {
		if got[i] != tt.Clean {
			t.Errorf("%s: got %q, want %q", tt.Why, got[i], tt.Clean)
		}
	}
}

func TestClippedTextIsShortAndValid(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "report.pdf": "report.pdf", "a\r\nb": "a\r\nb", "bad\xff\xfe.pdf": "bad\uFFFD.pdf",
		strings.Repeat("x", MaxText):            strings.Repeat("x", MaxText),
		strings.Repeat("x", MaxText+1):          strings.Repeat("x", MaxText),
		"x" + strings.Repeat("é", MaxText):      "x" + strings.Repeat("é", (MaxText-1)/2),
		strings.Repeat("x", MaxText-1) + "\xff": strings.Repeat("x", MaxText-1),
	} {
		if got := Clip(in); got != want {
			t.Errorf("%.20q of %d bytes: got %d bytes, want %d", in, len(in), len(got), len(want))
		}
	}
}

func TestNamesAreToldApart(t *testing.T) {
	in := []string{"a.pdf", "a.pdf", "A.PDF", "a (2).pdf", "noext", "noext", "e\u0301.txt", "\u00e9.txt", "archive.tar.gz", "archive.tar.gz",
		"x. a very long ending it is", "x. a very long ending it is", ".x", ".x", "a.pdf"}
	want := []string{"a.pdf", "a (2).pdf", "A (3).PDF", "a (2) (2).pdf", "noext", "noext (2)", "e\u0301.txt", "\u00e9 (2).txt", "archive.tar.gz", "archive.tar (2).gz",
		"x. a very long ending it is", "x. a very long ending it is (2)", ".x", ".x (2)", "a (4).pdf"}
	for i, got := range Unique(in) {
		if got != want[i] {
			t.Errorf("%q: got %q, want %q", in[i], got, want[i])
		}
	}
	same := make([]string, 20_000)
	began := measure.CPU()
	seen := make(map[string]bool)
	for _, name := range Unique(same) {
		seen[name] = true
	}
	if len(seen) != len(same) || measure.CPU()-began > 5*time.Second {
		t.Errorf("%d names of %d, in %v", len(seen), len(same), measure.CPU()-began)
	}
}

// A cleaned name is one element of a path and can be saved. Cleaning it again changes nothing.
func FuzzClean(f *testing.F) {
	f.Add("a/\xe3\x80\x80.\u200d.. -COM1 .txt")
	f.Fuzz(func(t *testing.T, s string) {
		name := Clean(s)
		if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "/\\<>:\"|?*\r\n\x00") ||
			strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") || device.MatchString(name) {
			t.Errorf("%q: unsafe name %q", s, name)
		}
		if again := Clean(name); again != name {
			t.Errorf("%q: got %q, and cleaned again %q", s, name, again)
		}
		if clipped := Clip(s); len(clipped) > MaxText || !utf8.ValidString(clipped) || !bytes.HasPrefix([]byte(strings.ToValidUTF8(s, "\uFFFD")), []byte(clipped)) {
			t.Errorf("%q: clipped to %q", s, clipped)
		}
	})
}
