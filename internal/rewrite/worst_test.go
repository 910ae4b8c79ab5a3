package rewrite

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite/notice"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// sink is a Detacher that discards all attachments, and returns the same link for each.
type sink struct {
	memoryStore
	link link.Link
	buf  [64 << 10]byte
}

func newSink(t testing.TB) *sink {
	l, err := newMemory().Detach(t.Context(), "a", "", strings.NewReader("a"))
	must.Succeed(t, err)
	return &sink{link: l}
}

func (s *sink) Detach(_ context.Context, _, _ string, r io.Reader) (link.Link, error) {
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, s.buf[:])
	return s.link, err
}

func (s *sink) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, _ func() io.Reader) (link.Link, error) {
	return s.Detach(ctx, name, mediaType, r)
}

// gauge is a reader that records the largest heap during its reads, without garbage.
type gauge struct {
	io.Reader
	reads int
	peak  uint64
}

func (g *gauge) Read(p []byte) (int, error) {
	if g.reads++; g.reads%16 == 0 {
		g.note()
	}
	return g.Reader.Read(p)
}

func (g *gauge) note() {
	heap := heapSize()
	if heap > g.peak+1<<20 { // perhaps garbage, of which a busy machine has more
		runtime.GC()
		heap = heapSize()
	}
	g.peak = max(g.peak, heap)
}

func heapSize() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// growth rewrites a mail and returns how much the heap grew.
func growth(t *testing.T, src io.Reader, d Detacher) int64 {
	t.Helper()
	runtime.GC()
	before := heapSize()
	g := &gauge{Reader: src, peak: before}
	pass(t, g, g.note, d)
	return int64(g.peak - before)
}

// spent rewrites a mail and returns the processor time.
func spent(t *testing.T, src io.Reader, d Detacher) time.Duration {
	t.Helper()
	runtime.GC()
	start := measure.CPU()
	pass(t, src, func() {}, d)
	return measure.CPU() - start
}

// pass rewrites a mail, and calls note before and after the result is written.
func pass(t *testing.T, src io.Reader, note func(), d Detacher) {
	t.Helper()
	m, err := Read(src, Policy{MinSize: 1, Language: "auto", Restore: true, Space: spool.NewSpace(t.TempDir(), nil, 1<<40)})
	must.Succeed(t, err)
	defer m.Close()
	if !m.Passes() {
		must.Succeed(t, m.Detach(t.Context(), d))
	}
	note()
	_, err = m.WriteTo(struct{ io.Writer }{io.Discard})
	must.Succeed(t, err)
	note()
}

// 10 MB of the worst mail take under a second, and at most twice their size in memory, in addition
// to the few MB that a text and a spool may always take.
func TestWorstIsLinear(t *testing.T) {
	faults.Covers(t, 64, 65)
	if race.Enabled {
		t.Skip("the race detector makes the measured times meaningless, and there is one goroutine")
	}
	const limit = time.Second
	mails := worst()
	maps.Copy(mails, bombs(10<<20))
	for name, mail := range mails {
		t.Run(name, func(t *testing.T) {
			var d Detacher = newSink(t)
			if name == "irregular lines" || name == "pictures above their HTML" {
				d = newMemory() // these files are stored, and then read back
			}
			took := spent(t, bytes.NewReader(mail), d)
			if took > limit { // the garbage collector may have worked for the mail before
				took = spent(t, bytes.NewReader(mail), d)
			}
			grown := growth(t, bytes.NewReader(mail), d)
			t.Logf("%v, heap %+d KiB", took.Round(time.Millisecond), grown>>10)
			if took > limit {
				t.Errorf("took %v, want under %v", took, limit)
			}
			if grown > int64(2*len(mail))+16<<20 {
				t.Errorf("heap grew by %d MiB, for a mail of %d MiB", grown>>20, len(mail)>>20)
			}
		})
	}
}

// bombs returns mails of the given size that cost memory or time in headers, names and texts.
func bombs(size int) map[string][]byte {
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	repeat := func(start, s, end string) []byte {
		return []byte(start + strings.Repeat(s, (size-len(start))/len(s)) + end)
	}
	part := func(field string) string { return head + "--b\r\nContent-Type: application/pdf;" + field }
	const bodyEnd = "\r\n\r\nx\r\n--b--\r\n"
	numbered := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	// many repeats a field within the limits of one header, in as many parts as the size allows.
	html := head + "--b\r\nContent-Type: text/html\r\n\r\n"
	manyOf := func(mediaType, field string) []byte {
		one := "--b\r\nContent-Type: " + mediaType + ";" + field + "\r\n\r\nx\r\n"
		return repeat(html+"<img src=cid:x>\r\n", one, "--b--\r\n")
	}
	many := func(field string) []byte { return manyOf("application/pdf", field) }
	last := "\r\n--b\r\n" + pdf(abc) + "--b--\r\n"
	quotedText := head + "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
	quoted := func(body string) []byte {
		return repeat(head, "--b\r\n"+strings.Replace(pdf(body), "base64", "quoted-printable", 1), "--b--\r\n")
	}
	_, odd := oddQuoted(10 << 10)
	_, longOdd := oddQuoted(2 << 20)
	runs := ""
	for i := range transfer.MaxRuns - 1 {
		runs += strings.Repeat("QUJD", 1+i%2) + " \r\n"
	}
	return map[string][]byte{
		"odd quoted parts":         quoted(odd),
		"long odd quoted parts":    quoted(longOdd),
		"short quoted parts":       quoted("=61 b=\r\n=2e"),
		"quoted words":             quoted(strings.Repeat(strings.Repeat("a =62 ", 7)+"=\r\n", 1<<15)),
		"quoted short lines":       quoted(strings.Repeat("a =62 c=\r\n", 1<<17)),
		"parts with many runs":     repeat(head, "--b\r\n"+pdf(runs), "--b--\r\n"),
		"part field":               repeat(part("\r\n x="), "x", bodyEnd),
		"part fields":              repeat(head+"--b\r\n", "a: b\r\n", bodyEnd),
		"continuation lines":       repeat(part(""), "\r\n\tx", bodyEnd),
		"parameters of a part":     repeat(part(""), " a=b;", bodyEnd),
		"numbered parameters":      []byte(part(numbered(" name*%d=x;", size/16)) + bodyEnd),
		"encoded words":            repeat(part(` name="`), "=?utf-8?Q?x?= ", `"`+bodyEnd),
		"many parameters":          many(strings.Repeat(" a=b;", 50_000)),
		"many numbered parameters": many(numbered(" name*%d=x;", 15_000)),
		"many encoded words":       many(` name="` + strings.Repeat("=?iso-2022-jp?Q?x?= ", 12_000) + `"`),
		"words in many ids":        many(strings.Repeat("\r\nContent-ID: =?iso-2022-jp?Q?x?=", 7_000)),
		"words in long ids":        many("\r\nContent-ID: " + strings.Repeat("=?iso-2022-jp?Q?x?=", 256) + "\r\nContent-Location: " + strings.Repeat("(%25&amp;", 20_000)),
		"headers of some words":    many(` name="` + strings.Repeat("=?iso-2022-jp?Q?x?= ", 256) + `"`),
		"words in two charsets":    many(` name="` + strings.Repeat("=?iso-2022-jp?Q?x?= =?gb2312?Q?x?= ", 7_000) + `"`),
		"words in no charset":      many(` name="` + strings.Repeat("=?x-none?Q?=B2=C6?= \xb2\xc6", 9_000) + `"`),
		"words without an end":     many(` name="` + strings.Repeat("=?utf-8?Q?x", 20_000) + `"`),
		"heads of words":           many(` name="` + strings.Repeat("=?", 120_000) + `"`),
		"raw bytes":                many(` name="` + strings.Repeat("\xb2\xc6", 120_000) + `"`),
		"small raw names":          repeat(head, "--b\r\nContent-Type: a/b; name=\xb2\xc6\xce\xf1\xb1\xa8\r\n\r\nabc\r\n", "--b--\r\n"),
		"escape sequences":         many(` name="` + strings.Repeat("\x1b$B", 80_000) + `"`),
		"shifted sequences":        many(` name="` + strings.Repeat("+AOk-", 50_000) + `"`),
		"strings with no end":      many(strings.Repeat(` a="b"x;`, 30_000)),
		"many percent signs":       many(" name*=utf-8''" + strings.Repeat("%41", 80_000)),
		"many quotes":              many(` name="` + strings.Repeat(`\"`, 100_000) + `"`),
		"many continuations":       many(strings.Repeat("\r\n\t", 8_000) + "name=x"),
		"many stray parameters":    manyOf("multipart/mixed", strings.Repeat(" =;", maxParams-1)+" x="+strings.Repeat("y", 240_000)),
		"many segments":            manyOf("multipart/mixed", numbered(" boundary*%d=x;", maxParams)+strings.Repeat(`"`, 240_000)),
		"skipped characters":       repeat(head, "--b\r\n"+pdf(strings.Repeat("QUJD*", 1<<15)), "--b--\r\n"),
		"short lines of base64":    repeat(head, "--b\r\n"+pdf(strings.Repeat("Q\r\n", 1<<15)), "--b--\r\n"),
		"equals signs":             repeat(head, "--b\r\n"+pdf(strings.Repeat("QUJD"+strings.Repeat("=", transfer.MaxLineEnd-2), 1<<12)), "--b--\r\n"),
		"many long boundaries":     repeat(head, "--b\r\nContent-Type: multipart/mixed; boundary="+strings.Repeat("x", maxBoundary)+"\r\n\r\n", ""),
		"references":               repeat(html, "cid:a ", last),
		"different references":     []byte(html + numbered("cid:%d ", 400_000) + "\r\n--b\r\n" + pdf(abc) + "--b--\r\n"),
		"references in references": repeat(html, "cid:", last),
		"many texts":               repeat(head, "--b\r\nContent-Type: text/html\r\n\r\n"+strings.Repeat("cid:", 250)+"\r\n", "--b--\r\n"),
		"many short texts":         repeat(head, "--b\r\nContent-Type: text/html; charset=big5\r\n\r\n<img src=a>\r\n", "--b--\r\n"),
		"open attributes":          repeat(html, "src=", last),
		"open quotes":              repeat(html, `src="src='`, last),
		"open URLs of CSS":         repeat(html, "url(", last),
		"escapes of CSS":           repeat(html, `url(\`, last),
		"lists of URLs":            repeat(html, "srcset=,", last),
		"blanks in URLs":           repeat(html, `src="cid:`+strings.Repeat(" ", 4000), last),
		"percent signs in URLs":    repeat(html, "src=%252525 ", last),
		"character references":     repeat(html, "&lt", last),
		"ends of URLs":             repeat(html, "cid:(((((((( ", last),
		"letters beyond ASCII":     repeat(html, "src=éÉ\u0301 ", last),
		"charset of many bytes":    repeat(strings.Replace(html, "text/html", "text/html; charset=gb18030", 1), "\x81\x30\x81\x30", last),
		"folded calendar":          repeat(strings.Replace(html, "text/html", "text/calendar", 1), "\r\n cid:", last),
		"blanks in a quoted text":  []byte(quotedText + strings.Repeat(" ", notice.MaxText-1) + "x" + "\r\n--b\r\n" + pdf(abc) + "--b--\r\n"),
		"pictures above their HTML": []byte(head + numbered("--b\r\nContent-Type: image/png\r\nContent-ID: <i>\r\n\r\n%02000d\r\n", size/2060) +
			"--b\r\nContent-Type: text/html\r\n\r\n<img src=cid:i>\r\n--b--\r\n"),
		"small attachments": repeat(head, "--b\r\n"+pdf(abc), "--b--\r\n"),
		"line ends":         repeat(head+"--b\r\n"+pdf("")[:len(pdf(""))-2], "\n\r\n", abc+"\r\n--b--\r\n"),
		"many line ends":    repeat(head, "--b\r\n"+pdf(strings.Repeat("\n\r\n", 2_000)+abc), "--b--\r\n"),
		"quoted blanks":     repeat(strings.TrimSuffix(encoded("quoted-printable", ""), "\r\n--b--\r\n"), " ", "x\r\n--b--\r\n"),
		"quoted line ends":  repeat(strings.TrimSuffix(encoded("quoted-printable", ""), "\r\n--b--\r\n"), "\r\n", "x\r\n--b--\r\n"),
		"quoted escapes":    repeat(strings.TrimSuffix(encoded("quoted-printable", ""), "\r\n--b--\r\n"), "=\r\n=41", "x\r\n--b--\r\n"),
	}
}

// A header of any size streams, both in the message and in a part.
func TestHeaderOf200MBStreams(t *testing.T) {
	faults.Covers(t, 65)
	if testing.Short() {
		t.Skip("slow")
	}
	for _, start := range []string{"X: ", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: "} {
		size := int64(200 << 20)
		src := io.MultiReader(strings.NewReader(start), io.LimitReader(endless('x'), size))
		grown := growth(t, src, newSink(t))
		t.Logf("heap %+d KiB", grown>>10)
		if grown > 16<<20 {
			t.Errorf("heap grew by %d MiB", grown>>20)
		}
	}
}

// endless is a reader of one byte, repeated without end.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// worst returns mails of 10 MB that make a walk slow.
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

// irregular returns base64 in which consecutive lines differ in length.
func irregular(size int) []byte {
	b := []byte("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for i := 0; len(b) < size; i++ {
		b = append(b, strings.Repeat("QUJD", 1+i%40)+"\r\n"...)
	}
	return b
}

// Small mails allocate little, because they reuse the buffers of earlier mails.
func TestSmallMailsAllocateLittle(t *testing.T) {
	if race.Enabled {
		t.Skip("pools are random under the race detector")
	}
	mail := []byte("From: a@example.org\r\nSubject: hi\r\n\r\nhello\r\n")
	res := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			discard(b, mail, nil)
		}
	})
	t.Logf("%d bytes, %d allocations, %d ns", res.AllocedBytesPerOp(), res.AllocsPerOp(), res.NsPerOp())
	if n := res.AllocedBytesPerOp(); n > 16<<10 {
		t.Errorf("%d bytes allocated for a mail of %d, want at most 16 KiB", n, len(mail))
	}
}
