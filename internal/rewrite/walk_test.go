package rewrite

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

func TestAmbiguousBoundariesAreLeftAlone(t *testing.T) {
	faults.Covers(t, 61)
	with := func(params, b string) string {
		mail := strings.Replace(multi(abc), "; boundary=b", params, 1)
		return strings.ReplaceAll(mail, "--b", "--"+b)
	}
	long := strings.Repeat("x", maxBoundary)
	for _, mail := range []string{
		with("", "b"),
		with("; boundary=", ""),
		with(`; boundary=""`, ""),
		with(`; boundary=b; boundary=c`, "b"),
		with(`; boundary=c; boundary=b`, "b"),
		with(`; boundary=b; boundary*=us-ascii''c`, "b"),
		with(`; boundary*0=b; boundary*2=c`, "bc"),
		with(`; boundary*0*=us-ascii''b; boundary*1=%20c`, "b%20c"),
		with(`; boundary=<b>`, "<b>"),
		with(`; boundary='b'`, "b"),
		with(`; boundary="b`, "b"),
		with(`; boundary=b"`, "b"),
		with(`; boundary="b"c`, "b"),
		with(`; boundary=a\b`, `a\b`),
		with(`; boundary="a\b"`, `a\b`),
		with("; boundary=\"b\xe9\"", "b\xe9"),
		with("; boundary=b\r\n c", "b c"),
		with("; boundary=\"b\r\n\tc\"", "b c"),
		with(`; boundary (c)=b`, "b"),
		with(`; name=x"y; boundary=b`, "b"),
		with(`; name="C:\"; boundary=b`, "b"),
		with(`; name="x; boundary=b`, "b"),
		with(` boundary=b`, "b"),
		strings.Replace(multi(abc), "multipart/mixed", `"multipart/mixed"`, 1),
		strings.Replace(multi(abc), "multipart/mixed", "multipart /mixed", 1),
		strings.Replace(multi(abc), "multipart/mixed", "multipart/(c)mixed", 1),
		with(`; boundary="b "`, "b "),
		with("; boundary=\"b\t\"", "b\t"),
		with("; boundary="+long+"x", long+"x"),
		with(`; boundary=never`, "b"),
		with("; boundary=b\r\nContent-Type: multipart/mixed; boundary=c", "b"),
		with("; boundary=b (a comment)", "b"),
		strings.Replace(multi(abc), "--b\r\n", "", 2),                 // no opening
		strings.TrimSuffix(multi(abc), "\r\n--b--\r\n") + "--b--",     // within a line
		strings.Replace(multi(abc), "\r\n--b--\r\n", "\r\n--b-", 1),   // cut short within it
		strings.Replace(multi(abc), "\r\n--b--\r\n", "\r\n --b--", 1), // not at the line's beginning
	} {
		untouched(t, mail)
	}
	detached(t, with("; boundary="+long, long), "abc")
	detached(t, with(`; boundary="b c"`, "b c"), "abc")
	detached(t, with(`; boundary="=_b:?'()"`, "=_b:?'()"), "abc")
	detached(t, with("; charset=x;\r\n\tboundary=\"b\"", "b"), "abc")
	for _, b := range []string{"----=_Part_1:2?", "=b", "b=", "a/b", "(b)", "a(c)d", "a@b", "<a", "b c", "b,c", "'b'", "[b]"} {
		detached(t, with("; boundary="+b, b), "abc")
		detached(t, with("; BOUNDARY = "+b+" ;", b), "abc")
	}
	for _, params := range []string{
		";; boundary=b", "; boundary=b;;", "; ; boundary=b", "; x; boundary=b", "; boundary=b; x", "; x=y=z; boundary=b", "; =; boundary=b",
		"; type=text/html; boundary=b; start=<a@b>", "; name=\xe9 x; boundary=b", `; boundary=b; name="x`, `; boundary="b"; name="C:\"`,
		"; boundary=b; boundary=\"b\"", "; name=x; boundary=b; name=y", "; boundary*=us-ascii''%62", "; boundary*0*=us-ascii'en'%62; boundary*1=",
		"; boundary*0=\"b\"", ";\r\n\tboundary\r\n =\r\n b",
	} {
		detached(t, with(params, "b"), "abc")
	}
	detached(t, with("; boundary=\"b\r\n c\"", "b c"), "abc")
	// Programs take a part that no delimiter ends up to the end of the message. They differ about a
	// last line end, which base64 does not have.
	open := func(mail string) string { return strings.TrimSuffix(mail, "--b--\r\n") }
	detached(t, open(multi("ZGVm", abc)), "def", "abc")
	detached(t, open(multi(abc+"ZA")), "abcd")
	detached(t, open(multi(abc))+"--bcde\r\n", "abcm\xc7\x5e")
	untouched(t, open(multi(abc+"Z")))
	untouched(t, open(encoded("7bit", "abc")))
	untouched(t, open(encoded("quoted-printable", "abc")))
	for _, mail := range []string{
		open(strings.Replace(multi(abc), "multipart/mixed", "multipart/parallel", 1)),
		open(strings.Replace(multi(abc), "\r\nhi\r\n", "", 1)),
		strings.TrimSuffix(open(multi(abc)), "\r\n"),
		"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + open(multi(abc)),
		"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + open(multi(abc)) + "--o--\r\n",
		"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + multi(abc),
	} {
		detached(t, mail, "abc")
	}
	// A closing delimiter may lack its line end, and no other.
	detached(t, strings.TrimSuffix(multi(abc), "\r\n"), "abc")
	detached(t, open(multi(abc))+"--b\r\n", "abc")
	untouched(t, open(multi(abc))+"--b")
}

// nest returns a multipart with boundary outer. It has a multipart with boundary inner and a PDF in
// it, and then another PDF.
func nest(outer, inner string) string {
	in := strings.ReplaceAll(multi(abc), "--b", "--"+inner)
	in = strings.ReplaceAll(in, "boundary=b", `boundary="`+inner+`"`)
	return `Content-Type: multipart/mixed; boundary="` + outer + "\"\r\n\r\n--" + outer + "\r\n" + in + "--" + outer + "\r\n" + pdf("ZGVm") + "--" + outer + "--\r\n"
}

func TestBoundariesThatLookAlikeAreToldApart(t *testing.T) {
	faults.Covers(t, 62)
	for _, pair := range [][2]string{{"b", "b-x"}, {"b-x", "b"}, {"b", "bx"}, {"b", "b1"}, {"-b", "b"}, {"b", "B"}, {"b", "--b"}, {"b", "b-"}} {
		out := detached(t, strings.ReplaceAll(nest(pair[0], pair[1]), "mixed", "parallel"), "abc", "def")
		if !strings.Contains(out, "\r\n--"+pair[1]+"--\r\n--"+pair[0]+"--\r\n") {
			t.Errorf("%q: delimiters are gone:\n%s", pair, out)
		}
	}
	// If boundaries on two levels cannot be distinguished, programs differ about the rest of the
	// mail.
	for _, pair := range [][2]string{{"b", "b"}, {"b", "b--"}, {"b--", "b"}} {
		untouched(t, nest(pair[0], pair[1]))
	}
	// The parts before it are not in doubt.
	detached(t, strings.Replace(nest("b", "b"), "\r\n--b\r\n", "\r\n--b\r\n"+pdf("Z2hp")+"--b\r\n", 1), "ghi")
	for _, line := range []string{"--b-junk", "--b--junk", "--bb", "-- b", "--b b", " --b", "--", "---b", "--b---", "--b\v", "--b\x00"} {
		detached(t, strings.Replace(multi(abc), "hi\r\n", "hi\r\n"+line+"\r\n", 1), "abc")
	}
	for _, line := range []string{"--b \t", "--b" + strings.Repeat(" ", 1000)} {
		detached(t, strings.Replace(multi(abc), "--b\r\nContent", line+"\r\nContent", 1), "abc")
	}
}

func TestDelimiterIsFoundAtBufferEdges(t *testing.T) {
	faults.Covers(t, 62)
	for _, around := range []int{4096, scanBuffer, 2 * scanBuffer} {
		for n := around - 80; n < around+8; n++ {
			mail := strings.Replace(multi(abc), "hi\r\n", strings.Repeat("x", n-60)+"\r\n", 1)
			d := newMemory()
			if _, _, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1}, d); err != nil || len(d.attachments()) != 1 {
				t.Fatalf("text of %d bytes: %d detached, want 1 (%v)", n-60, len(d.attachments()), err)
			}
		}
	}
}

// A delimiter line has the same limit for all sizes of reads.
func TestDelimiterWithPaddingAtTheLimit(t *testing.T) {
	faults.Covers(t, 62)
	for n := maxDelimiterLine - 8; n <= maxDelimiterLine+3; n++ {
		for _, after := range []string{"\r\n", "\n", "x\r\n"} {
			mail := strings.Replace(multi(abc), "--b\r\nContent", "--b"+strings.Repeat(" ", n-3)+after+"Content", 1)
			_, files := outcome(t, mail)
			if want := n+len(after) <= maxDelimiterLine && after[0] != 'x'; (len(files) == 1) != want {
				t.Errorf("delimiter line of %d bytes, then %q: detached %v, want %v", n, after, len(files) == 1, want)
			}
		}
	}
}

func TestLineEndsAreUnderstoodAndKept(t *testing.T) {
	faults.Covers(t, 63)
	mail := multi(abc, "ZGVm")
	detached(t, strings.ReplaceAll(mail, "\r\n", "\n"), "abc", "def")
	detached(t, strings.Replace(mail, "--b\r\nContent", "--b\nContent", 1), "abc", "def")
	detached(t, strings.Replace(mail, "\r\n--b--", "\n--b--", 1), "abc", "def")
	detached(t, strings.ReplaceAll(strings.ReplaceAll(mail, "\r\n", "\n"), "--b\n", "--b\r\n"), "abc", "def")
	detached(t, strings.Replace(mail, "hi\r\n", "hi\rho\r\n\x00\n\r\r\n", 1), "abc", "def")
	detached(t, strings.TrimSuffix(mail, "\r\n"), "abc", "def")
	untouched(t, strings.ReplaceAll(mail, "\r\n", "\r")) // no line ends at all
	untouched(t, "Subject: no body")
	untouched(t, "")
	untouched(t, "\r\n")
	// Preamble, epilogue and delimiter lines are kept to the byte.
	odd := "preamble\r\n\n\r \x00 --b\r\n"
	mail = strings.Replace(mail, "\r\n\r\n--b", "\r\n\r\n"+odd+"--b \t", 1) + "epilogue\n\r\x00\r\n--b\r\nno part\r\n--b--"
	out := detached(t, strings.Replace(mail, "mixed", "parallel", 1), "abc", "def")
	if !strings.Contains(out, "\r\n\r\n"+odd+"--b \t\r\n") || !strings.HasSuffix(out, "--b--\r\nepilogue\n\r\x00\r\n--b\r\nno part\r\n--b--") {
		t.Errorf("preamble or epilogue changed: %q", out)
	}
}

func TestLongLinesAreKept(t *testing.T) {
	faults.Covers(t, 63)
	long := strings.Repeat("x", 10<<20)
	mail := strings.Replace(multi(abc), "hi\r\n", long+"\r\n", 1)
	mail = strings.Replace(mail, "\r\n\r\n--b", "\r\n\r\n"+long+"\r\n--b", 1) + long
	mail = strings.Replace(mail, "mixed", "parallel", 1)
	d := newMemory()
	got, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Restore: true}, d)
	checkRestored(t, []byte(mail), got, m, d)
	if n := bytes.Count(got, []byte(long)); n != 3 || m.Stats().Detached != 1 {
		t.Errorf("%d long lines and %d detached, want 3 and 1", n, m.Stats().Detached)
	}
}

// pyramid returns a mail of depth nested multiparts, with a PDF in the innermost.
func pyramid(depth int) string {
	var open, end strings.Builder
	for i := range depth {
		fmt.Fprintf(&open, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		fmt.Fprintf(&end, "--b%d--\r\n", depth-1-i)
	}
	return open.String() + pdf(abc) + end.String()
}

func TestNestingBeyondTheLimitIsLeftAlone(t *testing.T) {
	faults.Covers(t, 64)
	detached(t, pyramid(10), "abc")
	detached(t, pyramid(maxDepth), "abc")
	untouched(t, pyramid(maxDepth+1))
	untouched(t, pyramid(10_000))
}

func TestPartsBeyondTheLimitAreLeftAlone(t *testing.T) {
	faults.Covers(t, 64)
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	filler := strings.Repeat("--b\r\n\r\n\r\n", maxParts-1)
	detached(t, head+filler+"--b\r\n"+pdf(abc)+"--b--\r\n", "abc")
	rest := "--b\r\n\r\n\r\n--b\r\n" + pdf("ZGVm") + "--b\r\n" + nest("i", "j") + "--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n"
	filler = "--b\r\nContent-Type: text/html\r\n\r\n<p>y\r\n" + filler[len("--b\r\n\r\n\r\n"):]
	untouched(t, head+filler+rest)
	out := detached(t, head+"--b\r\n"+pdf(abc)+filler+rest, "abc")
	if !strings.HasSuffix(out, rest[len("--b\r\n\r\n\r\n"):]) {
		t.Error("something changed beyond the limit")
	}
}
