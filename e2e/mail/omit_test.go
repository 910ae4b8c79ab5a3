package mail

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// hiddenFrom are texts in fields that no recipient may read: Postfix takes Bcc, Resent-Bcc,
// Return-Path and Content-Length out of every mail, and the header_checks of this test take out two
// fields more.
var hiddenFrom = []string{"secret-lawyer", "second-secret", "third-secret", "fourth-secret", "31415926", "203.0.113.77", "SecretMailer"}

const hiddenFields = "Bcc: Lawyer <secret-lawyer@z.example>,\r\n\tsecond-secret@z.example\r\n" +
	"Return-Path: <third-secret@z.example>\r\n" +
	"RESENT-BCC:\r\n fourth-secret@z.example\r\n" +
	"Content-Length: 31415926\r\n" +
	"X-Originating-IP: [203.0.113.77]\r\n" +
	"User-Agent: SecretMailer/1.0\r\n"

// header_checks work in the Postfix behind, after Detach has stored what restores the mail.
const headerChecks = "header_checks = regexp:{ {/^(X-Originating-IP|User-Agent):/ IGNORE} }\n"

// No object that Detach has stored has a byte of the fields that Postfix removes, and no link of the
// delivered mail leads to one: file, file list, ZIP and original.
func TestNobodyReadsWhatPostfixRemoves(t *testing.T) {
	faults.Covers(t, 106)
	python := stage.StartDecoder(t)
	box, proxy := servers.NewMailbox(t), servers.FreeAddr(t)
	pf := stage.StartPostfix(t, servers.PostfixConfig{Filter: proxy, Destination: box.Addr, Main: headerChecks})
	d := stage.Serve(t, stage.Setup{Listen: proxy, Reinject: pf.After, Policy: "min_size = \"1\"\nrestore_omit = [\"x-originating-ip\", \"User-Agent\"]"})
	c := &stage.Chain{Detach: d, Postfix: pf, Box: box}

	delivered := c.Deliver(t, hiddenFields+stage.AlternativeAndTwo)
	checkHidden(t, "the delivered mail", delivered)
	mail := python.Parse(t, delivered)
	original, ok := mail.Original()
	if !ok {
		t.Fatalf("the delivered mail has no link to its original:\n%s", delivered)
	}
	files := mail.CheckFiles(t, stage.Surprise, stage.Table)
	links := append(mail.AnyLinks(), original)
	ledger := c.Ledger(t)
	if len(links) != len(files)+2 || len(ledger) != len(links) {
		t.Fatalf("%d links to %d stored objects, want two files, their list and the original, each an object", len(links), len(ledger))
	}
	for _, l := range links {
		if !ledger[l.CID] {
			t.Errorf("%s is not a stored object", l.CID)
		}
		var page bytes.Buffer
		stage.Must(t, l.Download(t.Context(), &page))
		checkHidden(t, "the download of "+l.CID, page.Bytes())
		checkHidden(t, "the object "+l.CID, decrypt(t, c.URL, l))
	}
	checkOriginal(t, c, original, delivered)
}

func checkHidden(t *testing.T, where string, content []byte) {
	t.Helper()
	for _, secret := range hiddenFrom {
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("%s has %q", where, secret)
		}
	}
}

// checkOriginal checks that the original is the mail that the recipients would have got.
func checkOriginal(t *testing.T, c *stage.Chain, l stage.Link, delivered []byte) {
	t.Helper()
	var downloaded bytes.Buffer
	stage.Must(t, l.Download(t.Context(), &downloaded))
	restored := c.Pipe(t, "restore", bytes.NewReader(delivered))
	for from, original := range map[string][]byte{"gateway": downloaded.Bytes(), "restore": restored} {
		got, err := servers.StripTrace(original, 1) // the front Postfix's, which Detach got
		stage.Must(t, err)
		if string(got) != stage.AlternativeAndTwo {
			t.Errorf("%s: the original has %d bytes, want the %d that were sent without the omitted fields", from, len(got), len(stage.AlternativeAndTwo))
		}
	}
}

// decrypt returns everything that is in an object: its metadata and its data.
func decrypt(t *testing.T, base string, l stage.Link) []byte {
	t.Helper()
	read := func(entry string) []byte {
		resp, err := http.Get(base + "/" + l.CID + "/" + entry)
		stage.Must(t, err)
		defer resp.Body.Close()
		content, err := io.ReadAll(resp.Body)
		stage.Must(t, err)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s/%s: status %d", l.CID, entry, resp.StatusCode)
		}
		return content
	}
	key := l.FileKey(t)
	meta, err := key.OpenMeta(read("meta.jwe"))
	stage.Must(t, err)
	data := read("data")
	key.Stream(0).XORKeyStream(data, data)
	if got := stage.SHA256(data); got != fmt.Sprintf("%x", meta.SHA256) {
		t.Errorf("%s decrypts to SHA-256 %s, want that of its metadata", l.CID, got)
	}
	return append(data, meta.Name+"\n"+meta.Type...)
}
