package rewrite

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// scanAll returns the content of a message, with the delimiters of open boundaries in brackets:
// with a star for each level and a slash if they close.
func scanAll(t *testing.T, src io.Reader, boundaries ...string) string {
	t.Helper()
	s := newScanner(src)
	for _, b := range boundaries {
		if !s.push(b) {
			t.Fatalf("boundary %q refused", b)
		}
	}
	var out strings.Builder
	for {
		chunk, d, err := s.next()
		if err == io.EOF {
			return out.String()
		}
		must.Succeed(t, err)
		if d != nil {
			mark := "["
			if d.closing {
				mark = "[/"
			}
			out.WriteString(mark + strings.Repeat("*", d.level) + string(d.line) + "]")
		}
		out.Write(chunk)
	}
}

func TestScannerFindsDelimiterLines(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "x\r\n--a\r\ny", "x\r\n[--a\r\n]y"},
		{"first line", "--a\r\ny", "[--a\r\n]y"},
		{"closing", "x\r\n--a--\r\ny", "x\r\n[/--a--\r\n]y"},
		{"inner", "x\r\n--a-x\r\ny\r\n--a-x--\r\n--a\r\n", "x\r\n[*--a-x\r\n]y\r\n[/*--a-x--\r\n][--a\r\n]"},
		{"blanks after it", "--a \t \r\n", "[--a \t \r\n]"},
		{"closing, blanks", "--a-- \r\n", "[/--a-- \r\n]"},
		{"junk after it", "--ab\r\n--a b\r\n-- a\r\n--a---\r\n", "--ab\r\n--a b\r\n-- a\r\n--a---\r\n"},
		{"line feed alone", "x\n--a\ny", "x\n[--a\n]y"},
		{"at the end, no line end", "x\r\n--a--", "x\r\n[/--a--]"},
		{"dashes", "-\r\n--\r\n---\r\n-", "-\r\n--\r\n---\r\n-"},
		{"within a line", "x--a\r\n", "x--a\r\n"},
		{"after a bare CR", "x\r--a\r\n", "x\r--a\r\n"},
		{"two CRs", "--a\r\r\n", "--a\r\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := scanAll(t, strings.NewReader(tt.in), "a", "a-x"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := scanAll(t, iotest.OneByteReader(strings.NewReader(tt.in)), "a", "a-x"); got != tt.want {
				t.Errorf("byte by byte: got %q, want %q", got, tt.want)
			}
			for i := range len(tt.in) {
				src := io.MultiReader(strings.NewReader(tt.in[:i]), strings.NewReader(tt.in[i:]))
				if got := scanAll(t, src, "a", "a-x"); got != tt.want {
					t.Errorf("split at %d: got %q, want %q", i, got, tt.want)
				}
			}
		})
	}
}
