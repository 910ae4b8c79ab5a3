package proxy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// exactRig detaches nothing, and its next hop sets no limit.
func exactRig(t *testing.T) *rig {
	r := newRig(t, func(cfg *Config) { cfg.Mail.Policy = detach(nil, 1<<40, t.TempDir()).Policy })
	r.hop.script("EHLO", "250 next.example")
	return r
}

// pass sends a mail in pieces that end at the given offsets on the wire, and wants the next hop to
// get the mail unchanged except for the line ends that SMTP cannot carry (see normalize).
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
	if got, want := mails[len(mails)-1], normalize(mail); got != want {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		r.t.Errorf("pieces %v: got %d bytes, want %d; first difference at %d", ends, len(got), len(want), i)
	}
}

// Every mail of the corpus arrives byte for byte, as found and with CRLF.
func TestCorpusPassesByteForByte(t *testing.T) {
	faults.Covers(t, 55)
	r := exactRig(t)
	c := r.greeted()
	n := 0
	for _, mail := range corpus.Mails(t) {
		if bytes.Count(bytes.ToLower(mail), []byte("\nreceived:")) >= maxHops {
			continue
		}
		n++
		r.pass(c, string(mail))
		r.pass(c, string(corpus.CRLF(mail)))
		r.hop.forget()
	}
	corpus.Want(t, n)
}

// smallMail is 200 bytes with everything that SMTP or the rewriting treats specially.
const smallMail = "Content-Type: multipart/mixed; boundary=b\r\n\r\n.pre\r\n--b\r\n\r\n.\r\n..\r\nx\r\r\n\n\r\x00\xff\r\n" +
	"--b \t\r\nContent-Type: a/b; name=c\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--b-x\r\n-\r\n--\r\n--b--\r\nepilogue:a very end.\r\n.\r\n\r\n"

// The next hop gets the same bytes from any pieces that the network cuts a mail into.
func TestMailCutAnywhereIsTheSameMail(t *testing.T) {
	faults.Covers(t, 7, 55)
	if n := len(smallMail); n != 200 {
		t.Errorf("mail of %d bytes", n)
	}
	inBubble(t, "", func(t *testing.T, r *rig) { // over pipes each piece is a read of its own
		c := r.greeted()
		for _, mail := range []string{smallMail, "S: x\r\n\r\n" + sample} {
			var every []int
			for i := range len(writeDots(mail)) {
				r.pass(c, mail, i)
				every = append(every, i)
			}
			r.pass(c, mail, every...)
		}
	}, func(cfg *Config) { cfg.Mail.Policy = detach(nil, 1<<40, "").Policy })
}

func TestDelimitersAroundTheEndsOfBuffers(t *testing.T) {
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

func TestOddMessagesPassUnchanged(t *testing.T) {
	faults.Covers(t, 26, 27, 55)
	r := exactRig(t)
	c := r.greeted()
	for _, mail := range []string{
		"Received: from x\r\n",
		"", // as Postfix sends an empty mail
		"\r\n",
		".\r\n",
		"From somebody\r\nSubject: x\r\n\r\nFrom here\r\n",
		"X-Mailbox-Line: From x\r\n\r\nx\r\n",
		" begins with a blank\r\nSubject: x\r\n\r\nx\r\n",
		"no header at all\r\n",
		"\r\nbody only\r\n",
		"Subject: header only\r\n\r\n",
		"Subject: no blank line\r\n",
		"Received: from a\r\nFrom: b@c\r\n",
		"Subject: folded\r\n \t\r\n\tvery\r\n\r\n",
		"Subject: x\r\n\r\nbare \n\nLF, bare \r CR, \x00, \xff\r\n", // all kept
		"Subject: x\n\nline feeds\n\n--b\n",
		"no final newline",
		strings.TrimSuffix(smallMail, "\r\n"),
		strings.ReplaceAll(smallMail, "\r\n", "\n"),
		strings.ReplaceAll(smallMail, "\r\n", "\r"),
		strings.Replace(smallMail, ".pre", strings.Repeat("x", 10<<20), 1),
		strings.Replace(smallMail, "epilogue", strings.Repeat("\x00", 1<<20), 1),
	} {
		r.pass(c, mail)
	}
}

func TestLongLinesPassWhole(t *testing.T) {
	faults.Covers(t, 8)
	r := exactRig(t)
	c := r.greeted()
	for _, length := range []int{998, 1998, 1999, 2048, 4096, 65536, 10 << 20} {
		r.pass(c, "Subject: x\r\n\r\n"+strings.Repeat("x", length)+"\r\n")
	}
}
