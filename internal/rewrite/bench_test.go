package rewrite

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// mixed is a mail with a text and one attachment of size random bytes.
func mixed(size int) []byte {
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	var b bytes.Buffer
	b.WriteString("From: a@example.org\r\nSubject: files\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\n" +
		"--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHere it is.\r\n" +
		"--b1\r\nContent-Type: application/pdf; name=r.pdf\r\nContent-Disposition: attachment; filename=r.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	b.Write(transfer.EncodeBase64(content, "\r\n"))
	b.WriteString("\r\n--b1--\r\n")
	return b.Bytes()
}

// discard is a Detacher that reads and forgets.
type discard struct{ memory }

func (discard) Detach(_ context.Context, _, _ string, r io.Reader) (link.Link, error) {
	buf := discardBuffers.Get().(*[1 << 20]byte)
	defer discardBuffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf[:])
	return link.Link{}, err
}

var discardBuffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

func BenchmarkDetach(b *testing.B) {
	mail := mixed(32 << 20)
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := Read(bytes.NewReader(mail), Policy{MinSize: 64 << 10})
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Detach(b.Context(), &discard{}); err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// BenchmarkRewrite is what most mails with an attachment are: 100 KB, rewritten and written.
func BenchmarkRewrite(b *testing.B) {
	mail := mixed(100 << 10)
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		benchmarkPass(b, mail, &discard{})
	}
}

// BenchmarkWalk is a mail of 800 KB of which everything is looked at and kept.
func BenchmarkWalk(b *testing.B) {
	mail := bytes.Replace(mixed(600<<10), []byte("application/pdf; name=r.pdf"), []byte("text/calendar; name=r.ics"), 1)
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		benchmarkPass(b, mail, nil)
	}
}

func benchmarkPass(b *testing.B, mail []byte, d Detacher) {
	m, err := Read(bytes.NewReader(mail), Policy{MinSize: 64 << 10})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Detach(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	if _, err := m.WriteTo(struct{ io.Writer }{io.Discard}); err != nil {
		b.Fatal(err)
	}
	m.Close()
}

// BenchmarkScan is the search for delimiters alone.
func BenchmarkScan(b *testing.B) {
	mail := mixed(32 << 20)
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		s := newScanner(bytes.NewReader(mail))
		s.push("b1")
		for {
			if _, _, err := s.next(); err != nil {
				break
			}
		}
	}
}

// The worst a message can do to the walk stays linear.
func BenchmarkWorst(b *testing.B) {
	for name, mail := range worst() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(mail)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 64 << 10}, newMemory()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// worst is 10 MB each of what makes a walk slow.
func worst() map[string][]byte {
	const size = 10 << 20
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	fill := func(s string) []byte { return []byte(head + strings.Repeat(s, size/len(s))) }
	var nested strings.Builder
	for i := 0; nested.Len() < size; i++ {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return map[string][]byte{
		"delimiters":      fill("--b\r\n"),
		"dashes":          fill("--\n"),
		"almost":          fill("--b" + strings.Repeat(" ", 200) + "x\r\n"),
		"empty parts":     fill("--b\r\n\r\n\r\n"),
		"nested":          []byte(nested.String()),
		"long line":       fill("x"),
		"header lines":    []byte(strings.Repeat("a:\r\n", size/4)),
		"one field":       []byte("a: " + strings.Repeat("x", size)),
		"part header":     []byte(head + "--b\r\n" + strings.Repeat("a:\r\n", size/4)),
		"tiny base64":     append([]byte("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"), strings.Repeat(base64.StdEncoding.EncodeToString([]byte("abc"))+"\r\n", size/6)...),
		"irregular lines": irregular(size),
		"parameters":      []byte("Content-Type: multipart/mixed; " + strings.Repeat("a=b; ", size/5) + "boundary=b\r\n\r\n"),
	}
}

// irregular is base64 whose lines all differ from the ones before.
func irregular(size int) []byte {
	b := []byte("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for i := 0; len(b) < size; i++ {
		b = append(b, strings.Repeat("QUJD", 1+i%40)+"\r\n"...)
	}
	return b
}
