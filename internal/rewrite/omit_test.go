package rewrite

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// secret stands in every field of these tests that no recipient may read.
const secret = "secret-lawyer@z.example"

// withHeader returns a mail with these fields and two attachments.
func withHeader(fields string) string { return fields + multi(abc, abc) }

// checkNothingTold checks that the secret is in no stored object, and that restoring gives the mail
// as it would have been delivered.
func checkNothingTold(t *testing.T, mail string, p Policy) {
	t.Helper()
	d := newMemory()
	p.MinSize, p.Restore = 1, true
	got, m := mustRewrite(t, strings.NewReader(mail), p, d)
	checkRestored(t, []byte(mail), got, m, d)
	stored := map[string]int{} // objects of each type
	for _, f := range d.files {
		stored[f.mediaType]++
		if strings.Contains(string(f.content)+f.name+f.mediaType, secret) {
			t.Errorf("the object %q of type %s tells the secret:\n%s", f.name, f.mediaType, f.content)
		}
	}
	if stored[skeleton.Type] != 1 || stored[filelist.Type] != 1 {
		t.Errorf("stored %v, want a skeleton and a file list among them", stored)
	}
}

// Fields that a delivered mail never has are in no stored object, wherever and however they stand
// in the header.
func TestBccIsNotStored(t *testing.T) {
	faults.Covers(t, 106)
	const other = "From: a@example.org\r\nTo: b@example.org\r\nSubject: x\r\n"
	for name, fields := range map[string]string{
		"first":                  "Bcc: " + secret + "\r\n" + other,
		"last":                   other + "Bcc: " + secret + "\r\n",
		"between":                "Date: x\r\nBcc: <" + secret + ">, c@example.org\r\n" + other,
		"alone":                  "Bcc: " + secret + "\r\n",
		"folded":                 "Bcc: c@example.org,\r\n\t" + secret + ",\r\n d@example.org\r\n" + other,
		"folded after the name":  "Bcc:\r\n " + secret + "\r\n" + other,
		"folded by a blank line": "Bcc: c@example.org\r\n \r\n " + secret + "\r\n" + other,
		"in capitals":            "BCC: " + secret + "\r\n" + other,
		"in small letters":       "bcc:" + secret + "\r\n" + other,
		"blanks before colon":    "Bcc \t: " + secret + "\r\n" + other,
		"no blank after colon":   "Bcc:" + secret + "\r\n" + other,
		"with a comment":         "Bcc: (" + secret + ") c@example.org\r\n" + other,
		"a group":                "Bcc: hidden:" + secret + ";\r\n" + other,
		"repeated":               "Bcc: " + secret + "\r\n" + other + "bcc: " + secret + "\r\nBCC : \r\n " + secret + "\r\n",
		"only LF":                strings.ReplaceAll("Bcc: a@b,\r\n "+secret+"\r\n"+other, "\r\n", "\n"),
		"a bare CR in it":        "Bcc: c@example.org\r" + secret + "\r\n" + other,
		"8-bit and control":      "Bcc: \xe9\x00 " + secret + "\r\n" + other,
		"Resent-Bcc":             "Resent-From: a@b\r\nResent-Bcc: " + secret + "\r\n" + other + "Resent-BCC: " + secret + "\r\n",
		"Return-Path":            "Return-Path: <" + secret + ">\r\n" + other,
		"Content-Length":         other + "Content-Length: 7 (" + secret + ")\r\n",
		"below an mbox line":     "From a@example.org Sun Nov 22 20:00:00 2026\r\nBcc: " + secret + "\r\n" + other,
		"very long":              "Bcc: " + strings.Repeat("c@example.org,\r\n ", 7000) + secret + "\r\n" + other,
		"very often":             strings.Repeat("Bcc: "+secret+"\r\nX: y\r\n", 3000) + other,
	} {
		t.Run(name, func(t *testing.T) {
			checkNothingTold(t, withHeader(fields), Policy{})
			checkNothingTold(t, withHeader(fields), Policy{RestoreOmit: []string{"X-Mailer"}})
		})
	}
}

// The policy names more fields that are not stored. It matches whole names, in any case.
func TestRestoreOmitNamesMoreFields(t *testing.T) {
	faults.Covers(t, 106)
	p := Policy{RestoreOmit: []string{"X-Originating-IP", "received", "BCC"}}
	mail := withHeader("Received: from [203.0.113.77] by x\r\n\tfor <" + secret + ">\r\nX-Originating-Ip: " + secret + "\r\nreceived : " + secret +
		"\r\nX-Received: kept\r\nReceive: kept\r\nX-Originating-IP-2: kept\r\nBcc: " + secret + "\r\n")
	checkNothingTold(t, mail, p)
	d := newMemory()
	p.MinSize, p.Restore = 1, true
	mustRewrite(t, strings.NewReader(mail), p, d)
	for _, f := range d.files {
		if f.mediaType == skeleton.Type && strings.Count(string(f.content), ": kept\r\n") != 3 {
			t.Errorf("fields with similar names are missing in\n%s", f.content)
		}
	}
}

// A header that mail programs could read in two ways makes the mail pass, so nothing of it is
// stored.
func TestNothingIsStoredOfAMailWithAMalformedHeader(t *testing.T) {
	faults.Covers(t, 106)
	for name, fields := range map[string]string{
		"a line without a colon":   "Subject: x\r\nno field\r\nBcc: " + secret + "\r\n",
		"a blank in the name":      "B cc: " + secret + "\r\n",
		"a comment in the name":    "Bcc (hidden): " + secret + "\r\n",
		"a control in the name":    "B\x00cc: " + secret + "\r\n",
		"a foreign letter":         "B\xc3\xa7c: " + secret + "\r\n",
		"folded before the name":   " Bcc: " + secret + "\r\n",
		"a bare CR before it":      "Subject\r: x\r\nBcc: " + secret + "\r\n",
		"more bytes than allowed":  "X: " + strings.Repeat("x", maxHeaderBytes) + "\r\nBcc: " + secret + "\r\n",
		"more lines than allowed":  strings.Repeat("X: y\r\n", maxHeaderLines) + "Bcc: " + secret + "\r\n",
		"a value beyond the limit": "Bcc: " + strings.Repeat("x", maxHeaderBytes) + secret + "\r\n",
	} {
		d := newMemory()
		mail := withHeader(fields)
		got, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Restore: true}, d)
		if !m.Passes() || len(d.files) > 0 || string(got) != mail {
			t.Errorf("%s: passes is %v with %d objects, want a mail that passes unchanged", name, m.Passes(), len(d.files))
		}
	}
}

// The mail that goes on keeps the omitted fields: the mail server behind removes them. Forwarded
// messages and parts keep theirs, in the mail and in the skeleton: they are content.
func TestOmittedFieldsStayInTheMailAndItsParts(t *testing.T) {
	const part = "Content-Type: message/rfc822\r\nBcc: part@example.org\r\n\r\nBcc: inner@example.org\r\nSubject: y\r\n\r\nBcc: text@example.org"
	mail := "Bcc: outer@example.org\r\n" + strings.Replace(multi(abc), "--b\r\n\r\nhi", "--b\r\n"+part, 1)
	d := newMemory()
	got, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Restore: true}, d)
	checkRestored(t, []byte(mail), got, m, d)
	if !strings.HasPrefix(string(got), "Bcc: outer@example.org\r\n") || !strings.Contains(string(got), part) {
		t.Errorf("a field is missing in the mail that goes on:\n%s", got)
	}
	for _, f := range d.files {
		if f.mediaType == skeleton.Type && !strings.Contains(string(f.content), part) {
			t.Errorf("a field of a part is missing in the skeleton:\n%s", f.content)
		}
	}
}

// The vectors of docs/format.md that say what was received restore to their message.
func TestReceivedMessagesOfTheVectors(t *testing.T) {
	text, err := os.ReadFile("../../docs/vectors/skeleton.json")
	must.Succeed(t, err)
	var vectors []struct {
		Why               string
		Received, Message []byte
	}
	must.Succeed(t, json.Unmarshal(text, &vectors))
	n := 0
	for _, v := range vectors {
		if v.Received == nil {
			continue
		}
		n++
		d := newMemory()
		got, m := mustRewrite(t, bytes.NewReader(v.Received), Policy{MinSize: 1, Restore: true}, d)
		if back := restore(t, got, d); m.Stats().Detached == 0 || !bytes.Equal(back, v.Message) {
			t.Errorf("%s: %d attachments detached, restored\n%q\nwant\n%q", v.Why, m.Stats().Detached, back, v.Message)
		}
	}
	if n == 0 {
		t.Error("no vector says what was received")
	}
}
