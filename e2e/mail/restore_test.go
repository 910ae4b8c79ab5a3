package mail

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// signer signs mails by DKIM with go-msgauth, and asks OpenDKIM about them.
type signer struct {
	t      *testing.T
	key    *rsa.PrivateKey
	config string
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	servers.Need(t, "opendkim")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	stage.Must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	stage.Must(t, err)
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	stage.Must(t, os.WriteFile(keys, []byte("test._domainkey.senders.example v=DKIM1; k=rsa; p="+base64.StdEncoding.EncodeToString(public)+"\n"), 0o600))
	s := &signer{t, key, filepath.Join(dir, "opendkim.conf")}
	stage.Must(t, os.WriteFile(s.config, []byte("Mode v\nTestPublicKeys "+keys+"\n"), 0o600))
	return s
}

func (s *signer) sign(mail string, c dkim.Canonicalization) []byte {
	s.t.Helper()
	var out bytes.Buffer
	stage.Must(s.t, dkim.Sign(&out, strings.NewReader(mail), &dkim.SignOptions{
		Domain: "senders.example", Selector: "test", Signer: s.key, Hash: crypto.SHA256,
		HeaderCanonicalization: c, BodyCanonicalization: c,
	}))
	return out.Bytes()
}

var verdict = regexp.MustCompile(`verification \(s=test,? d=senders\.example,.*\) (succeeded|failed)`)

// verifies reports whether OpenDKIM accepts the mail's signature.
func (s *signer) verifies(t *testing.T, mail []byte) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mail.eml")
	stage.Must(t, os.WriteFile(path, mail, 0o600))
	out, err := exec.Command(servers.LookPath("opendkim"), "-x", s.config, "-t", path).CombinedOutput()
	m := verdict.FindSubmatch(out)
	if m == nil {
		t.Fatalf("opendkim says neither yes nor no: %v\n%s", err, out)
	}
	return string(m[1]) == "succeeded"
}

// A signature that Detach broke holds again when the mail is restored.
func TestRestoredSignatureVerifies(t *testing.T) {
	s := newSigner(t)
	d := stage.Configure(t, stage.Setup{Policy: `min_size = "1"`})
	for name, text := range map[string]string{"text and a PDF": stage.TextAndPDF, "alternative and two": stage.AlternativeAndTwo, "a scanner's PDF": stage.ScannersPDF} {
		for _, c := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			t.Run(name+"/"+string(c), func(t *testing.T) {
				mail := s.sign(text, c)
				rewritten := d.Pipe(t, "filter", bytes.NewReader(mail))
				restored := d.Pipe(t, "restore", bytes.NewReader(rewritten))
				if !bytes.Equal(restored, mail) {
					t.Errorf("restored %d bytes, want the %d signed", len(restored), len(mail))
				}
				if !s.verifies(t, mail) || s.verifies(t, rewritten) || !s.verifies(t, restored) {
					t.Errorf("verifies when signed: %v, rewritten: %v, restored: %v; want true, false, true",
						s.verifies(t, mail), s.verifies(t, rewritten), s.verifies(t, restored))
				}
			})
		}
	}
}

// A mail passes Postfix, detach, Postfix and LMTP into a real Dovecot, and is read by IMAP.
// detach restore gives back detach's input: the submitted mail under one Received field.
func TestRestoreAfterPostfixAndDovecot(t *testing.T) {
	s := newSigner(t)
	dovecot := servers.StartDovecot(t)
	proxy := servers.FreeAddr(t)
	pf := stage.StartPostfix(t, servers.PostfixConfig{
		Filter: proxy, Destination: dovecot.LMTP, Main: "relay_transport = lmtp:inet:" + dovecot.LMTP + "\n",
	})
	d := stage.Serve(t, stage.Setup{Listen: proxy, Reinject: pf.After, Policy: `min_size = "1"`})
	var visits []stage.Visit
	for i, text := range []string{stage.TextAndPDF, stage.AlternativeAndTwo, stage.ScannersPDF} {
		mail := s.sign(text, dkim.CanonicalizationSimple)
		stage.Gets(t, pf.Front, "250", string(mail))
		servers.Eventually(t, servers.Patience, "the mail in Dovecot", func() bool { return len(dovecot.Files("wilhelmina")) == i+1 })
		pf.WaitEmpty(servers.Patience)
		read := dovecot.Fetch("wilhelmina", i+1)
		if !bytes.HasPrefix(read, []byte("Return-Path: ")) || !bytes.Contains(read, []byte("\r\nDelivered-To: ")) {
			t.Errorf("Dovecot added no fields of its own:\n%.500s", read)
		}
		if s.verifies(t, read) {
			t.Error("the signature holds before the mail is restored")
		}
		// In the Maildir the lines end in LF.
		for form, read := range map[string][]byte{"IMAP": read, "LF": bytes.ReplaceAll(read, []byte("\r\n"), []byte("\n"))} {
			restored := d.Pipe(t, "restore", bytes.NewReader(read))
			stripped, err := servers.StripTrace(restored, 1)
			stage.Must(t, err)
			if !bytes.Equal(stripped, mail) {
				t.Errorf("%s: restored %d bytes, want the %d submitted", form, len(stripped), len(mail))
			}
			if !s.verifies(t, restored) {
				t.Errorf("%s: the signature does not hold after restoring", form)
			}
		}
		header, _, _ := bytes.Cut(read, []byte("\r\n\r\n"))
		links := stage.LinksIn(string(header))
		if len(links) != 1 {
			t.Fatalf("%d links in the header, want that of Detach-Restore", len(links))
		}
		want := stage.SHA256(d.Pipe(t, "restore", bytes.NewReader(read)))
		v := links[0].Visit("original.eml", want)
		v.JavaScript = i > 0
		visits = append(visits, v)
	}
	visits[1].Screenshot = "original.png"
	stage.Browse(t, visits)
}
