package rewrite

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// scanAll is what the scanner makes of a message with boundaries a, then b open:
// content as it is, delimiters in brackets.
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
		if err != nil {
			t.Fatal(err)
		}
		if d != nil {
			mark := "["
			if d.closing {
				mark = "[/"
			}
			out.WriteString(mark + strings.Repeat("*", d.level) + string(d.line) + "]")
			continue
		}
		out.Write(chunk)
	}
}

func TestScannerDelimiters(t *testing.T) {
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

// A delimiter is found wherever it lies to the ends of the buffer.
func TestScannerBufferEdges(t *testing.T) {
	for _, size := range []int{4096, 32768, scanBuffer, 2 * scanBuffer} {
		for n := size - 8; n < size+8; n++ {
			in := strings.Repeat("x", n-2) + "\r\n--a\r\ny"
			want := strings.Repeat("x", n-2) + "\r\n[--a\r\n]y"
			if got := scanAll(t, strings.NewReader(in), "a"); got != want {
				t.Errorf("delimiter at %d not found", n)
			}
		}
	}
}

func TestScannerLongLines(t *testing.T) {
	in := strings.Repeat("x", 10<<20) + "\r\n--a" + strings.Repeat(" ", maxDelimiterLine) + "\r\n--a\r\n"
	got := scanAll(t, strings.NewReader(in), "a")
	if want := in[:len(in)-5] + "[--a\r\n]"; got != want {
		t.Error("a line too long for a delimiter must be content, the next one a delimiter")
	}
}

func TestScannerRefusesAmbiguousBoundaries(t *testing.T) {
	for _, b := range []string{"a", "a--", "", "b ", "b\t", strings.Repeat("b", maxBoundary+1)} {
		s := newScanner(strings.NewReader(""))
		s.push("a")
		if s.push(b) {
			t.Errorf("boundary %q accepted beside \"a\"", b)
		}
	}
}

func TestSourceErrorComesBack(t *testing.T) {
	mail := mixed(200 << 10)
	for _, n := range []int{0, 10, 150, 400, 1000, 100_000, len(mail) - 3} {
		broken := io.MultiReader(bytes.NewReader(mail[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))
		d := newMemory()
		_, _, err := rewriteAll(broken, Policy{MinSize: 1 << 10, Restore: true}, d)
		if source := new(SourceError); !errors.As(err, &source) {
			t.Errorf("source fails after %d bytes: got error %v, want a *SourceError", n, err)
		}
		if len(d.files) > 0 {
			t.Errorf("source fails after %d bytes: something was stored", n)
		}
	}
}
