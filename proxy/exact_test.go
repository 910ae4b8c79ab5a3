package proxy

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
)

const corpusDir = "../../shared/corpus"

// sent is what a next hop is given of a mail that nothing is detached from: the
// mail, but for what SMTP cannot say (dotWriter has the reasons).
func sent(mail string) string {
	var out strings.Builder
	for i, line := range strings.SplitAfter(mail, "\n") {
		// A bare LF before a dot becomes CRLF.
		if s := out.String(); i > 0 && strings.HasPrefix(line, ".") && !strings.HasSuffix(s, "\r\n") {
			out.Reset()
			out.WriteString(strings.TrimSuffix(s, "\n") + "\r\n")
		}
		out.WriteString(line)
	}
	if s := out.String(); s != "" && !strings.HasSuffix(s, "\r\n") {
		if strings.HasSuffix(s, "\n") {
			return strings.TrimSuffix(s, "\n") + "\r\n"
		}
		return s + "\r\n"
	}
	return out.String()
}

// exactRig detaches nothing.
func exactRig(t *testing.T) *rig {
	return newRig(t, func(cfg *Config) { cfg.Policy = rewrite.Policy{MinSize: 1 << 40, TempDir: t.TempDir()} })
}

// pass sends a mail in pieces that end at the given offsets of what goes over
// the wire, and wants it to arrive as it was.
func (r *rig) pass(c *client, mail string, ends ...int) {
	r.t.Helper()
	c.mail()
	c.want("DATA", "354")
	wire, pos := writeDots(mail), 0
	for _, end := range append(ends, len(wire)) {
		if end > pos && end <= len(wire) {
			c.send(wire[pos:end])
			pos = end
		}
	}
	c.expect("250")
	mails := r.hop.delivered()
	if got, want := mails[len(mails)-1], sent(mail); got != want {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		r.t.Errorf("pieces %v: got %d bytes, want %d; first difference at %d", ends, len(got), len(want), i)
	}
}

func (r *rig) greeted() *client {
	r.t.Helper()
	c := r.connect()
	c.expect("220")
	c.want("EHLO client.example", "250")
	return c
}

// Every mail of the corpus arrives byte for byte, as found and with CRLF.
func TestCorpusThroughTheProxy(t *testing.T) {
	faults.Covers(t, 55)
	if _, err := os.Stat(corpusDir); err != nil {
		t.Skip("no corpus beside the project: ", err)
	}
	r := exactRig(t)
	c := r.greeted()
	n := 0
	err := filepath.WalkDir(corpusDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "INDEX.tsv" || e.Name() == "README.md" {
			return err
		}
		mail, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Count(bytes.ToLower(mail), []byte("\nreceived:")) >= maxHops {
			return nil
		}
		n++
		lf := strings.ReplaceAll(string(mail), "\r\n", "\n")
		r.pass(c, string(mail))
		r.pass(c, strings.ReplaceAll(lf, "\n", "\r\n"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d mails, twice", n)
	if n < 800 {
		t.Errorf("%d mails, want 875", n)
	}
}

// smallMail is 200 bytes with everything in it that has a meaning on the wire or
// for the walk.
const smallMail = "Content-Type: multipart/mixed; boundary=b\r\n\r\n.pre\r\n--b\r\n\r\n.\r\n..\r\nx\r\r\n\n\r\x00\xff\r\n" +
	"--b \t\r\nContent-Type: a/b; name=c\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--b-x\r\n-\r\n--\r\n--b--\r\nepilogue:a very end.\r\n.\r\n\r\n"

// However the bytes of a mail come in, they are the same.
func TestAnySplit(t *testing.T) {
	faults.Covers(t, 55)
	if n := len(smallMail); n != 200 {
		t.Errorf("mail of %d bytes", n)
	}
	inBubble(t, func(t *testing.T) { // over pipes each piece is a read of its own
		r := newPipeRig(t, func(cfg *Config) { cfg.Policy.MinSize = 1 << 40 })
		defer r.shutdown()
		c := r.greeted()
		var every []int
		for i := range len(writeDots(smallMail)) {
			r.pass(c, smallMail, i)
			every = append(every, i)
		}
		r.pass(c, smallMail, every...)
	})
}

// Mails whose delimiters and dots lie around the ends of buffers.
func TestAroundBuffers(t *testing.T) {
	faults.Covers(t, 55)
	r := exactRig(t)
	c := r.greeted()
	for _, size := range []int{4096, 32768, 65536} {
		for n := size - 12; n <= size+12; n++ {
			head, rest, _ := strings.Cut(smallMail, ".pre\r\n")
			mail := head + strings.Repeat("x", n-len(head)-2) + "\r\n.\r\n" + rest
			r.pass(c, mail)
			r.pass(c, mail, n)
			r.pass(c, mail, size)
		}
	}
}

func TestOddShapes(t *testing.T) {
	faults.Covers(t, 55)
	r := exactRig(t)
	r.hop.script("EHLO", "250-next.example\r\n250 SIZE 0")
	c := r.greeted()
	for _, mail := range []string{
		"", "\r\n", ".\r\n", "Subject: no blank line\r\n", "Received: from a\r\nFrom: b@c\r\n", // Postfix's empty mail
		"Subject: folded\r\n \t\r\n\tvery\r\n\r\n", "Subject: x\n\nline feeds\n\n--b\n", "no final newline",
		strings.TrimSuffix(smallMail, "\r\n"), strings.ReplaceAll(smallMail, "\r\n", "\n"), strings.ReplaceAll(smallMail, "\r\n", "\r"),
		strings.Replace(smallMail, ".pre", strings.Repeat("x", 10<<20), 1),
		strings.Replace(smallMail, "epilogue", strings.Repeat("\x00", 1<<20), 1),
	} {
		r.pass(c, mail)
	}
}
