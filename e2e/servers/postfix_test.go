package servers

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Two Postfixes with nothing between them change no byte of a mail, so the filter made every change
// that a test finds.
func TestPostfixesAloneChangeNothing(t *testing.T) {
	box := NewMailbox(t)
	p := StartPostfix(t, PostfixConfig{Filter: "127.0.0.1:9", Destination: box.Addr, Domain: "known.example", Users: []string{"user"}})

	mail := "From: joe\r\nSubject: =?utf-8?q?h=C3=A9?=\r\nX-Odd:a\r\n\tb\r\n\r\n.dots\r\n..\r\nbare\rreturn \xff " +
		strings.Repeat("long", 1000) + "\r\n\r\n"
	reply := Send(t, p.Control, "127.0.0.5", Message{From: "a@b.example", To: "user@known.example", Data: strings.NewReader(mail)})
	got := box.Wait(t, QueueID(reply))
	stripped, err := StripTrace(got.Data, 2)
	if err != nil || string(stripped) != mail {
		t.Errorf("delivered %q (%v), want %q", got.Data, err, mail)
	}
	if got.To[0] != "TO:<user@known.example>" {
		t.Errorf("delivered to %q", got.To)
	}
	if line := p.ClientLine(QueueID(reply)); !strings.Contains(line, "orig_client=unknown[127.0.0.5]") {
		t.Errorf("the after-filter Postfix logged %q, want the original client 127.0.0.5", line)
	}
	p.WaitEmpty(Patience)

	reply = Send(t, p.Control, "", Message{From: "a@b.example", To: "nobody@known.example", Data: strings.NewReader(mail)})
	if !strings.HasPrefix(reply, "550 5.1.1") {
		t.Errorf("an unknown recipient got %q, want 550 5.1.1", reply)
	}
}

func TestStripTraceWantsEveryReceivedField(t *testing.T) {
	mail := []byte("Return-Path: <a>\r\nReceived: from a\r\n\tby b\r\nReceived: x\r\nFrom: c\r\n\r\nbody")
	got, err := StripTrace(mail, 2)
	if want := []byte("From: c\r\n\r\nbody"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := StripTrace(mail, 3); err == nil {
		t.Error("want an error for a missing Received field")
	}
}

// A killed Postfix leaves temporary files. postsuper(1), which does not run as root, logs them
// before the next start.
func TestPostfixStartsAfterACrash(t *testing.T) {
	p := StartPostfix(t, PostfixConfig{Filter: "127.0.0.1:9", Destination: "127.0.0.1:9", Domain: "known.example", Users: []string{"user"}})
	p.Kill()
	leftover := filepath.Join(p.dir, "queue/incoming/877162.30026")
	Must(t, os.WriteFile(leftover, nil, 0o600))
	incoming, err := os.Stat(filepath.Dir(leftover))
	Must(t, err)
	Must(t, os.Chown(leftover, int(incoming.Sys().(*syscall.Stat_t).Uid), -1))
	p.Start()
	if _, err := p.control("status"); err != nil {
		t.Errorf("status: %v\n%s", err, p.Log())
	}
}
