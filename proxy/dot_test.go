package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// readDots reads one message from src, and everything after it.
func readDots(t testing.TB, src io.Reader) (data, rest string, err error) {
	t.Helper()
	r := bufio.NewReaderSize(src, 16) // the smallest size: lines and dots fall on every boundary
	b, err := io.ReadAll(newDotReader(r))
	if err != nil {
		return string(b), "", err
	}
	after, err := io.ReadAll(r)
	must.Succeed(t, err)
	return string(b), string(after), nil
}

func writeDots(chunks ...string) string {
	var out bytes.Buffer
	w := newDotWriter(bufio.NewWriterSize(&out, 16))
	for _, c := range chunks {
		io.WriteString(w, c)
	}
	w.Close()
	return out.String()
}

// falseEnds are sequences that some servers take for the end of a message, as in CVE-2023-51764.
// Each is data; the message ends at the CRLF . CRLF after it.
var falseEnds = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r.\r", "\r\n.\r", "\n.\r", "\r.\n",
	"\r\n.\r\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n. \r\n", "\r\n .\r\n", "\n\n.\n\n", "\r\r\n.\r\r\n",
}

func TestCRCRLFBeforeFinalDotEnds(t *testing.T) {
	faults.Covers(t, 1)
	for _, body := range []string{"x\r\r\n", "x\r\n\r\r\n", "x\r\r\r\n", "\r\r\n", "\r\n"} {
		got, rest, err := readDots(t, strings.NewReader(body+".\r\nQUIT\r\n"))
		if err != nil || got != body || rest != "QUIT\r\n" {
			t.Errorf("%q: got %q, rest %q, %v", body, got, rest, err)
		}
	}
}

func TestFalseEndsAreData(t *testing.T) {
	faults.Covers(t, 2, 3)
	for _, end := range falseEnds {
		wire := "x" + end + "MAIL FROM:<evil@example>\r\n.\r\nQUIT\r\n"
		got, rest, err := readDots(t, strings.NewReader(wire))
		if err != nil {
			t.Errorf("%q: %v", end, err)
			continue
		}
		if rest != "QUIT\r\n" || !strings.HasSuffix(got, "MAIL FROM:<evil@example>\r\n") {
			t.Errorf("%q: ended early: got %q, rest %q", end, got, rest)
		}
		// The message that we send on has one end for a receiver that counts only CRLF, and for one
		// that counts any LF and drops CRs before it, as Postfix before 3.9 does, or any CR.
		wire = writeDots(got)
		if n := strings.Count(wire, "\r\n.\r\n"); n != 1 || !strings.HasSuffix(wire, "\r\n.\r\n") {
			t.Errorf("%q: sent on as %q", end, wire)
		}
		if n := lenientEnd(wire); n != len(wire) {
			t.Errorf("%q: a lenient receiver ends %q after %d bytes", end, wire, n)
		}
	}
}

// lenientEnd returns where the message ends for the first of these receivers: one takes any LF for
// a line end and drops the CRs before it, the other takes any CR and any LF for one.
func lenientEnd(wire string) int {
	if at := cleaningEnd.FindStringIndex(wire); at != nil && at[1] < len(wire) {
		return at[1]
	}
	at := 0
	for line := range strings.Lines(wire) {
		at += len(line)
		if strings.TrimRight(line, "\r\n") == "." && strings.HasSuffix(line, "\n") {
			return at
		}
	}
	return -1
}

var cleaningEnd = regexp.MustCompile(`(?:^|[\r\n])\.(?:\r\n|\r|\n)`)

func TestNoEndIsAnError(t *testing.T) {
	faults.Covers(t, 4)
	for _, wire := range []string{"", ".", ".\r", ".\n", "x", "x\n.\n", "x\n.\r\n", "x\r\n.", "x\r\n.\r", "x\r\n.\n"} {
		if got, _, err := readDots(t, strings.NewReader(wire)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: got %q, %v; want unexpected EOF", wire, got, err)
		}
	}
}

func TestEveryDotComesOutAsItWentIn(t *testing.T) {
	faults.Covers(t, 6)
	for _, c := range []struct{ wire, want string }{
		{".\r\n", ""},
		{"..\r\n.\r\n", ".\r\n"},
		{"...\r\n.\r\n", "..\r\n"},
		{".x\r\n.\r\n", "x\r\n"},
		{"x\r\n..\r\n..x\r\n.\r\n", "x\r\n.\r\n.x\r\n"},
		{"a.\r\n.\r\n", "a.\r\n"},
		{"\r\n.\r\n", "\r\n"},
	} {
		got, _, err := readDots(t, strings.NewReader(c.wire))
		if err != nil || got != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.wire, got, err, c.want)
		}
	}
	// Dots around the boundaries of every buffer in use.
	for _, size := range []int{lineSize, dataSize, 2 * dataSize} {
		for at := size - 5; at <= size+5; at++ {
			body := strings.Repeat("x", at-2) + "\r\n.\r\n..\r\n.y\r\n"
			got, err := io.ReadAll(newDotReader(bufio.NewReaderSize(strings.NewReader(writeDots(body)), dataSize)))
			if err != nil || string(got) != body {
				t.Fatalf("dot at %d: the message has changed, %v", at, err)
			}
		}
	}
}

// sample is 200 bytes with every meaningful combination of dots and line ends.
var sample = func() string {
	s := ".\r\n..a\r\n\r\n.\r\r\n.\rb\r.\r\n\x00\xff.\n.c\r\n...\r\r\nd\r\n.e\n\nf\r\n"
	return s + strings.Repeat("0123456789", 20)[:200-len(s)-2] + "\r\n"
}()

func TestDotsCutAnywhereAreTheSame(t *testing.T) {
	faults.Covers(t, 7)
	want := normalize(sample)
	wire := writeDots(sample)
	for i := 0; i <= len(sample); i++ {
		if got := writeDots(sample[:i], sample[i:]); got != wire {
			t.Fatalf("written in two at %d: %q, want %q", i, got, wire)
		}
	}
	if got := writeDots(strings.Split(sample, "")...); got != wire {
		t.Fatalf("written by bytes: %q, want %q", got, wire)
	}
	for i := 0; i <= len(wire); i++ {
		src := io.MultiReader(strings.NewReader(wire[:i]), strings.NewReader(wire[i:]+"QUIT"))
		got, rest, err := readDots(t, src)
		if err != nil || got != want || rest != "QUIT" {
			t.Fatalf("read in two at %d: %q, rest %q, %v", i, got, rest, err)
		}
	}
	for _, src := range []io.Reader{
		iotest.OneByteReader(strings.NewReader(wire)),
		iotest.DataErrReader(strings.NewReader(wire)),
		iotest.HalfReader(strings.NewReader(wire)),
	} {
		if got, _, err := readDots(t, src); err != nil || got != want {
			t.Fatalf("%T: %q, %v", src, got, err)
		}
	}
	must.Succeed(t, iotest.TestReader(newDotReader(bufio.NewReader(strings.NewReader(wire))), []byte(want)))
}

// normalize does to line ends what dotWriter does.
func normalize(s string) string {
	if s != "" && !strings.HasSuffix(s, "\r\n") {
		s = strings.TrimSuffix(s, "\n") + "\r\n"
	}
	return dotAtLine.ReplaceAllString(s, "\r\n.")
}

var dotAtLine = regexp.MustCompile(`(?:\r\n|\r|\n)\.`)

func TestFinalLineGetsCRLF(t *testing.T) {
	faults.Covers(t, 37)
	for _, c := range []struct{ data, want string }{
		{"", ".\r\n"},
		{"x", "x\r\n.\r\n"},
		{"x\n", "x\r\n.\r\n"},
		{"x\r", "x\r\r\n.\r\n"},
		{"x\r\n", "x\r\n.\r\n"},
		{"x\r\n.", "x\r\n..\r\n.\r\n"},
		{"x\n.", "x\r\n..\r\n.\r\n"},
		{"x\r.", "x\r\n..\r\n.\r\n"},
		{"x\r\r.\ry", "x\r\r\n..\ry\r\n.\r\n"},
		{"x\ny\n", "x\ny\r\n.\r\n"},
	} {
		if got := writeDots(c.data); got != c.want {
			t.Errorf("%q: got %q, want %q", c.data, got, c.want)
		}
	}
}

func FuzzDots(f *testing.F) {
	f.Add([]byte(sample), 7)
	for _, end := range falseEnds {
		f.Add([]byte("x"+end+"y"), 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, split int) {
		wire := writeDots(string(data))
		if n := lenientEnd(wire); n != len(wire) {
			t.Fatalf("lenient receiver ends %q at %d", wire, n)
		}
		i := max(0, min(split, len(data)))
		if got := writeDots(string(data[:i]), string(data[i:])); got != wire {
			t.Fatalf("split at %d: %q, want %q", i, got, wire)
		}
		i = max(0, min(split, len(wire)))
		src := io.MultiReader(strings.NewReader(wire[:i]), strings.NewReader(wire[i:]), strings.NewReader("QUIT"))
		got, rest, err := readDots(t, src)
		if want := normalize(string(data)); err != nil || got != want || rest != "QUIT" {
			t.Fatalf("got %q, rest %q, %v; want %q", got, rest, err, want)
		}
	})
}

// FuzzDotReader compares the reader with a slow one that follows RFC 5321 word for word.
func FuzzDotReader(f *testing.F) {
	for _, end := range falseEnds {
		f.Add([]byte("x" + end + "y\r\n.\r\nQUIT\r\n"))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, rest, err := readDots(t, bytes.NewReader(wire))
		want, after, ended := plainDots(string(wire))
		if ended != (err == nil) || ended && (got != want || rest != after) {
			t.Fatalf("%q: got %q, rest %q, %v; want %q, rest %q", wire, got, rest, err, want, after)
		}
	})
}

func plainDots(wire string) (data, rest string, ended bool) {
	for {
		if after, ok := strings.CutPrefix(wire, ".\r\n"); ok {
			return data, after, true
		}
		wire = strings.TrimPrefix(wire, ".")
		line, after, ok := strings.Cut(wire, "\r\n")
		if !ok {
			return "", "", false
		}
		data, wire = data+line+"\r\n", after
	}
}

// Base64 has lines of 76 bytes.
func BenchmarkDots(b *testing.B) {
	for _, length := range []int{76, 998} {
		data := []byte(strings.Repeat(strings.Repeat("A", length)+"\r\n", 4<<20/(length+2)))
		bench := func(name string, once func() error) {
			b.Run(fmt.Sprint(name, " ", length), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					must.Succeed(b, once())
				}
			})
		}
		src, buf, wire := bufio.NewReaderSize(nil, dataSize), make([]byte, dataSize), string(data)+".\r\n"
		bench("read", func() error {
			src.Reset(strings.NewReader(wire))
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, newDotReader(src), buf)
			return err
		})
		dst := bufio.NewWriterSize(struct{ io.Writer }{io.Discard}, dataSize)
		bench("write", func() error {
			w := newDotWriter(dst)
			for chunk := range slices.Chunk(data, 32<<10) {
				w.Write(chunk)
			}
			return w.Close()
		})
	}
}
