package e2e

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
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
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
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	must(t, os.WriteFile(keys, []byte("test._domainkey.senders.example v=DKIM1; k=rsa; p="+base64.StdEncoding.EncodeToString(public)+"\n"), 0o600))
	s := &signer{t, key, filepath.Join(dir, "opendkim.conf")}
	must(t, os.WriteFile(s.config, []byte("Mode v\nTestPublicKeys "+keys+"\n"), 0o600))
	return s
}

func (s *signer) sign(mail string, c dkim.Canonicalization) []byte {
	s.t.Helper()
	var out bytes.Buffer
	must(s.t, dkim.Sign(&out, strings.NewReader(mail), &dkim.SignOptions{
		Domain: "senders.example", Selector: "test", Signer: s.key, Hash: crypto.SHA256,
		HeaderCanonicalization: c, BodyCanonicalization: c,
	}))
	return out.Bytes()
}

var verdict = regexp.MustCompile(`verification \(s=test,? d=senders\.example,.*\) (succeeded|failed)`)

// verifies says whether OpenDKIM finds the mail as it was signed.
func (s *signer) verifies(t *testing.T, mail []byte) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mail.eml")
	must(t, os.WriteFile(path, mail, 0o600))
	out, err := exec.Command(servers.LookPath("opendkim"), "-x", s.config, "-t", path).CombinedOutput()
	m := verdict.FindSubmatch(out)
	if m == nil {
		t.Fatalf("opendkim says neither yes nor no: %v\n%s", err, out)
	}
	return string(m[1]) == "succeeded"
}

// pipe runs one of detach's filters.
func (d *detach) pipe(t *testing.T, command string, mail []byte) []byte {
	t.Helper()
	cmd := exec.Command(binary, command, "--config", d.config)
	cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	cmd.Stdin = bytes.NewReader(mail)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("detach %s: %v\n%s", command, err, lastLines(stderr.String(), 10))
	}
	keepLog("detach", stderr.String())
	return out
}

// A signature that Detach broke holds again when the mail is restored.
func TestRestoredSignatureVerifies(t *testing.T) {
	s := newSigner(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: "127.0.0.1:9", policy: `min_size = "1"`})
	for name, text := range map[string]string{"text and a PDF": textAndPDF, "alternative and two": alternativeAndTwo, "a scanner's PDF": scannersPDF} {
		for _, c := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			t.Run(name+"/"+string(c), func(t *testing.T) {
				mail := s.sign(text, c)
				rewritten := d.pipe(t, "filter", mail)
				restored := d.pipe(t, "restore", rewritten)
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

var restoreLink = regexp.MustCompile(`(?i)\nDetach-Restore:\s+(https?://[^\s#]*/(bafybei[a-z2-7]{52})#(z[1-9A-Za-z]{40,44}))`)

// The whole way: Postfix, detach, Postfix, LMTP into a real Dovecot, and back by IMAP. What restore makes of that is
// what detach was given: the mail as it was submitted, under the one Received field of the Postfix in front.
func TestRestoreAfterPostfixAndDovecot(t *testing.T) {
	s := newSigner(t)
	dovecot := servers.StartDovecot(t)
	proxy := servers.FreeAddr(t)
	pf := servers.StartPostfix(t, servers.PostfixConfig{
		Filter: proxy, Destination: dovecot.LMTP, Domain: domain, Users: []string{"wilhelmina"},
		Main: "relay_transport = lmtp:inet:" + dovecot.LMTP + "\n",
	})
	t.Cleanup(func() { keepLog("postfix", pf.Log()) })
	d := serve(t, setup{proxy: proxy, reinject: pf.After, policy: `min_size = "1"`})
	var visits []visit
	for i, text := range []string{textAndPDF, alternativeAndTwo, scannersPDF} {
		mail := s.sign(text, dkim.CanonicalizationSimple)
		reply := servers.Send(t, pf.Front, "", message(mail))
		if !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("the sender got %q", reply)
		}
		servers.Eventually(t, servers.Patience, "the mail in Dovecot", func() bool { return len(dovecot.Files("wilhelmina")) == i+1 })
		pf.WaitEmpty(servers.Patience)
		read := dovecot.Fetch("wilhelmina", i+1)
		if !bytes.HasPrefix(read, []byte("Return-Path: ")) || !bytes.Contains(read, []byte("\r\nDelivered-To: ")) {
			t.Errorf("Dovecot added no fields of its own:\n%.500s", read)
		}
		if s.verifies(t, read) {
			t.Error("the signature holds before the mail is restored")
		}
		// As the Maildir has it, the lines end in LF.
		for form, read := range map[string][]byte{"IMAP": read, "LF": bytes.ReplaceAll(read, []byte("\r\n"), []byte("\n"))} {
			restored := d.pipe(t, "restore", read)
			stripped, err := servers.StripTrace(restored, 1)
			must(t, err)
			if !bytes.Equal(stripped, mail) {
				t.Errorf("%s: restored %d bytes, want the %d submitted", form, len(stripped), len(mail))
			}
			if !s.verifies(t, restored) {
				t.Errorf("%s: the signature does not hold after restoring", form)
			}
		}
		m := restoreLink.FindSubmatch(read)
		if m == nil {
			t.Fatal("no Detach-Restore field")
		}
		l := newLink(linkPattern.FindStringSubmatch(string(m[1])))
		want := attachment{content: d.pipe(t, "restore", read)}.sha256()
		visits = append(visits, visit{Link: l.url, Name: "original.eml", Device: "desktop", JavaScript: i > 0, fragment: l.fragment, sha256: want})
	}
	visits[1].Screenshot = "original.png"
	browse(t, visits)
}

// After 50 MB the base64 goes wrong. What was stored until then is read back, and nothing of it stays.
func TestWrongAfterFiftyMegabytes(t *testing.T) {
	servers.Need(t, "python3")
	good := base64Lines(noise(61, 50<<20))
	mail := []byte(strings.Replace(textAndPDF, base64Lines(report.content), good+"?!\r\n"+good[:1<<20], 1))
	onEachStore(t, func(t *testing.T, s store) {
		d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: "127.0.0.1:9", kubo: s.api()})
		var pins []string
		if s.kubo != nil {
			pins = s.pins()
		}
		report := t.TempDir() + "/peak"
		cmd := exec.Command("python3", "-c", peak, report, binary, "filter", "--config", d.config)
		cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
		cmd.Stdin = bytes.NewReader(mail)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("detach filter: %v\n%s", err, lastLines(stderr.String(), 10))
		}
		if !bytes.Equal(out, mail) {
			t.Errorf("%d bytes came out, want the %d that came in", len(out), len(mail))
		}
		if left := d.objects(t); len(left) > 0 {
			t.Errorf("left in the store: %q", left)
		}
		if s.kubo != nil && !slices.Equal(s.pins(), pins) {
			t.Errorf("pinned: %q, want %q", s.pins(), pins)
		}
		if left, err := os.ReadDir(d.tmp); err != nil || len(left) > 0 {
			t.Errorf("left in TMPDIR: %v, %v", left, err)
		}
		if most := peakOf(t, report); most >= memoryLimit {
			t.Errorf("filter had %d MiB, want less than %d", most>>20, memoryLimit>>20)
		} else {
			t.Logf("at most %d MiB", most>>20)
		}
	})
}

// peakOf reads what the wrapper has written.
func peakOf(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	must(t, err)
	return kib << 10
}
