package docs

import (
	"archive/zip"
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// eicar is the text that every virus scanner reports. It is cut so that none reports this file.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// Domains of the mails: strangers at theirDomain write to us at stage.Domain.
const theirDomain = "senders.example"

// The tests' clients name themselves by XCLIENT, so that every server takes them for clients on the
// Internet.
const (
	stranger = "NAME=mail." + theirDomain + " ADDR=" + servers.Outsider
	ourUser  = "NAME=home." + stage.Domain + " ADDR=203.0.113.9 LOGIN=wilhelmina"
)

// maxMessage is rspamd's limit here, in bytes. By default it is 50 MiB.
const maxMessage = 4 << 20

// site is an installation that had rspamd, with ClamAV, and OpenDKIM before, as milters in main.cf.
type site struct {
	*installation
	detach       *stage.Detach
	rspamd       *servers.Rspamd
	ours, theirs servers.DKIMKey
	decoder      *stage.Decoder
}

func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{ours: servers.NewDKIMKey(t, stage.Domain), theirs: servers.NewDKIMKey(t, theirDomain), decoder: stage.StartDecoder(t)}
	opendkim := servers.StartOpenDKIM(t, s.ours)
	s.rspamd = s.startRspamd(t)
	s.installation = newInstallation(t, map[string]string{"127.0.0.1:8891": opendkim, "127.0.0.1:11332": s.rspamd.Milter})
	s.startPostfix(s.block(mainCf)+`
smtpd_milters = inet:127.0.0.1:8891, inet:127.0.0.1:11332
non_smtpd_milters = $smtpd_milters
header_checks = regexp:{ { /^MIME-Version:/ PREPEND X-Checked: yes } }
always_bcc = archive@`+stage.Domain+`
smtp_tls_security_level = encrypt
smtp_tls_policy_maps = inline:{ { [`+strings.Replace(s.box.Addr, ":", "]:", 1)+` = none } }
message_size_limit = 100000000
default_transport = $relay_transport
smtpd_authorized_xclient_hosts = 127.0.0.0/8
`,
		s.service("smtp")+s.block(inboundAfterQueue)+
			s.service("submission")+s.block(addedSubmission)+
			s.service("submissions")+s.block(submissionAfterQueue)+
			s.block(wayAfterQueue)+s.behind(behindInbound, behindAfterQueue)+s.behind(behindSubmission, signerBehind)+s.block(pickup))
	s.detach = s.startDetach()
	return s
}

// startRspamd starts rspamd and the servers that it asks: ClamAV, and a DNS in which both domains
// publish their clients and keys.
func (s *site) startRspamd(t *testing.T) *servers.Rspamd {
	t.Helper()
	zone := strings.Join([]string{
		"mail." + theirDomain + " A " + servers.Outsider,
		theirDomain + " MX mail." + theirDomain,
		theirDomain + " TXT v=spf1 ip4:" + servers.Outsider + " -all",
		"_dmarc." + theirDomain + " TXT v=DMARC1; p=reject",
		s.theirs.Name() + " TXT " + s.theirs.TXT(t),
		stage.Domain + " TXT v=spf1 ip4:203.0.113.1 -all",
		"_dmarc." + stage.Domain + " TXT v=DMARC1; p=reject",
		s.ours.Name() + " TXT " + s.ours.TXT(t),
	}, "\n")
	clamd := servers.StartClamd(t, "Own.EICAR", eicar)
	return servers.StartRspamd(t, servers.RspamdConfig{DNS: servers.StartDNS(t, servers.Zone(zone)), Local: map[string]string{
		"options.inc":         fmt.Sprintf("max_message = %d;\n", maxMessage),
		"milter_headers.conf": `use = ["authentication-results"];`,
		"antivirus.conf": `clamav { type = "clamav"; servers = "` + clamd + `"; action = "reject";
			symbol = "CLAM_VIRUS"; message = "virus found: ${VIRUS}"; }`,
	}})
}

// letter returns a mail with a text and a file. Its Message-ID comes from its subject.
func letter(from, subject string, file stage.Attachment) string {
	return strings.Replace(stage.Head(subject), stage.Sender, from, 1) + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nHere they are.\r\n--b\r\n" + file.Part() + "--b--\r\n"
}

// send gives a mail to a service as a client, and returns the reply.
func (s *site) send(t *testing.T, service, client, from, mail string) string {
	t.Helper()
	c := servers.Connect(t, s.addr[service])
	for _, line := range []string{"EHLO client.example", "XCLIENT " + client} {
		if reply, err := c.Cmd("%s", line); err != nil || reply[0] != '2' {
			t.Fatalf("%s: %q, %v", line, reply, err)
		}
	}
	m := stage.Message(mail)
	m.From = from
	reply, err := c.Send(m)
	stage.Must(t, err)
	return reply
}

// delivered waits for the mail with a subject, and checks that the recipient and the archive got it
// once each.
func (s *site) delivered(t *testing.T, subject string) []byte {
	t.Helper()
	var mail []byte
	var recipients []string
	servers.Eventually(t, servers.Patience, "the mail "+subject, func() bool {
		mail, recipients = nil, nil
		for _, m := range s.box.Mails() {
			if bytes.Contains(m.Data, []byte("Subject: "+subject+"\r\n")) {
				mail, recipients = m.Data, append(recipients, m.To...)
			}
		}
		return mail != nil && s.pf.Waiting() == 0
	})
	if len(recipients) != 2 {
		t.Errorf("delivered to %q, want the recipient and the archive", recipients)
	}
	return mail
}

var scanned = regexp.MustCompile(`rspamd_task_write_log: id: <([^>]+)>.* ip: ([0-9.]+)`)

// scannedAs returns the client's address of every time that rspamd scanned the mail with a subject.
func (s *site) scannedAs(t *testing.T, subject string) (addrs []string) {
	t.Helper()
	id := stage.SHA256([]byte(subject))[:16] + "@senders.example"
	for _, m := range scanned.FindAllStringSubmatch(s.rspamd.Log(t), -1) {
		if m[1] == id {
			addrs = append(addrs, m[2])
		}
	}
	return addrs
}

// signedByThem signs a mail of theirDomain, bytes and lines exactly as they are.
func (s *site) signedByThem(t *testing.T, mail string) string {
	t.Helper()
	var signed bytes.Buffer
	stage.Must(t, dkim.Sign(&signed, strings.NewReader(mail), &dkim.SignOptions{
		Domain: s.theirs.Domain, Selector: s.theirs.Selector, Signer: s.theirs.Private, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationSimple, BodyCanonicalization: dkim.CanonicalizationSimple,
	}))
	return signed.String()
}

// signatures verifies the DKIM signatures of a mail and returns what is wrong with each, by domain.
func (s *site) signatures(t *testing.T, mail []byte) map[string]error {
	t.Helper()
	found, err := dkim.VerifyWithOptions(bytes.NewReader(mail), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		for _, k := range []servers.DKIMKey{s.ours, s.theirs} {
			if k.Name() == strings.TrimSuffix(name, ".") {
				return []string{k.TXT(t)}, nil
			}
		}
		return nil, errors.New("no such key")
	}})
	stage.Must(t, err)
	signed := make(map[string]error)
	for _, v := range found {
		signed[v.Domain] = v.Err
	}
	return signed
}

// wantSigned checks that a mail has one signature, which is good and of a domain.
func wantSigned(t *testing.T, domain string, signatures map[string]error) {
	t.Helper()
	if err, signed := signatures[domain]; !signed || err != nil || len(signatures) != 1 {
		t.Errorf("signatures: %v, want a good one of %s alone", signatures, domain)
	}
}

var results = regexp.MustCompile(`(?s)\r\nAuthentication-Results: (.*?)\r\n\S`)

// wantResults checks what rspamd says of a mail's client, signature and author.
func wantResults(t *testing.T, mail []byte, want ...string) {
	t.Helper()
	found := results.FindAllSubmatch(mail, -1)
	if len(found) != 1 {
		t.Errorf("%d fields Authentication-Results, want one:\n%.2000s", len(found), mail)
		return
	}
	for _, w := range want {
		if !bytes.Contains(found[0][1], []byte(w)) {
			t.Errorf("Authentication-Results: %s\nwant %s", found[0][1], w)
		}
	}
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// virus returns a ZIP file with the text that our ClamAV takes for a virus.
func virus(t *testing.T) stage.Attachment {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string][]byte{"invoice.com": []byte(eicar), "photo.raw": stage.Noise(52, 200_000)} {
		w, err := z.Create(name)
		stage.Must(t, err)
		_, err = w.Write(content)
		stage.Must(t, err)
	}
	stage.Must(t, z.Close())
	return stage.FileOf("invoice.zip", b.Bytes())
}

// The guide's configuration for an installation with milters keeps every milter where it belongs.
func TestPostfixGuideWithMilters(t *testing.T) {
	faults.Covers(t, 107)
	s := startSite(t)
	ours := "wilhelmina@" + stage.Domain
	file := stage.FileOf("milters.bin", stage.Noise(53, 120_000))

	t.Run("check agrees with the guide", func(t *testing.T) {
		cmd := exec.Command(stage.Binary(), "check", "--config", s.detach.Config)
		cmd.Env = append(os.Environ(), "MAIL_CONFIG="+s.pf.ConfigDir())
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("warn  proxy")) {
			t.Errorf("detach check: %v\n%s", err, out)
		}
	})

	t.Run("mail from outside is verified as it came", func(t *testing.T) {
		const subject = "an honest mail"
		if reply := s.send(t, "smtp", stranger, stage.Sender, s.signedByThem(t, letter(stage.Sender, subject, file))); reply[0] != '2' {
			t.Fatalf("the sender got %q", reply)
		}
		mail := s.delivered(t, subject)
		s.decoder.Parse(t, mail).CheckFiles(t, file)
		wantSigned(t, theirDomain, s.signatures(t, s.detach.Pipe(t, "restore", bytes.NewReader(mail))))
		wantResults(t, mail, "dkim=pass", "spf=pass", "dmarc=pass")
		if n := bytes.Count(mail, []byte("X-Checked: yes\r\n")); n != 1 {
			t.Errorf("header_checks added their field %d times, want once", n)
		}
		if got := s.scannedAs(t, subject); len(got) != 1 || got[0] != servers.Outsider {
			t.Errorf("rspamd saw clients %q, want %s alone", got, servers.Outsider)
		}
		if line := regexp.MustCompile(`.*to=<archive@.*relay=[^,]*:` + port(s.addr["127.0.0.1:10025"]) + `,.*`).FindString(s.pf.Log()); line != "" {
			t.Errorf("the front added the archive's address: %s", line)
		}
		s.pf.WaitLog(`postfix/detached/smtpd.*orig_client=mail\.senders\.example\[` + regexp.QuoteMeta(servers.Outsider))
	})

	t.Run("mail with nothing to detach keeps its signature", func(t *testing.T) {
		const subject = "a short mail"
		text := stage.Head(subject) + "\r\n.a dot, \xfc in Latin-1, and a long line: " + strings.Repeat("long ", 1000) + "\r\n\r\n"
		if reply := s.send(t, "smtp", stranger, stage.Sender, s.signedByThem(t, text)); reply[0] != '2' {
			t.Fatalf("the sender got %q", reply)
		}
		wantSigned(t, theirDomain, s.signatures(t, s.delivered(t, subject)))
	})

	t.Run("a forged mail is not signed", func(t *testing.T) {
		const subject = "a forged mail"
		if reply := s.send(t, "smtp", stranger, ours, letter(ours, subject, file)); reply[0] != '2' {
			t.Fatalf("the sender got %q", reply)
		}
		mail := s.delivered(t, subject)
		s.decoder.Parse(t, mail).CheckFiles(t, file)
		wantResults(t, mail, "spf=fail", "dmarc=fail")
		if got := s.signatures(t, mail); len(got) != 0 {
			t.Errorf("signatures: %v, want none", got)
		}
	})

	for _, service := range []string{"submission", "submissions"} {
		t.Run(service+" is signed as it is delivered", func(t *testing.T) {
			subject := "our mail by " + service
			if reply := s.send(t, service, ourUser, ours, letter(ours, subject, file)); reply[0] != '2' {
				t.Fatalf("the sender got %q", reply)
			}
			mail := s.delivered(t, subject)
			s.decoder.Parse(t, mail).CheckFiles(t, file)
			wantSigned(t, stage.Domain, s.signatures(t, mail))
		})
	}

	t.Run("mail of this machine's own programs is signed as it is delivered", func(t *testing.T) {
		const subject = "a report by cron"
		m := stage.Message(strings.ReplaceAll(letter(ours, subject, file), "\r\n", "\n"))
		m.From = ours
		s.pf.Submit(m)
		mail := s.delivered(t, subject)
		s.decoder.Parse(t, mail).CheckFiles(t, file)
		wantSigned(t, stage.Domain, s.signatures(t, mail))
	})

	t.Run("a mail above rspamd's max_message gets a 451", func(t *testing.T) {
		large := letter(stage.Sender, "a mail too large for rspamd", stage.FileOf("large.bin", stage.Noise(54, maxMessage)))
		if reply := s.send(t, "smtp", stranger, stage.Sender, large); !strings.HasPrefix(reply, "451 ") {
			t.Errorf("the sender got %q", reply)
		}
	})

	for service, client := range map[string]string{"smtp": stranger, "submissions": ourUser} {
		t.Run(service+" refuses a virus", func(t *testing.T) {
			reply := s.send(t, service, client, ours, letter(ours, "a virus by "+service, virus(t)))
			if !strings.HasPrefix(reply, "554 ") || !strings.Contains(reply, "virus found") {
				t.Errorf("the sender got %q, want a 554", reply)
			}
		})
	}
}

// rspamd, too, signs what comes to the Postfix behind from 127.0.0.1, if it is the signer.
func TestPostfixGuideWithRspamdAsTheSigner(t *testing.T) {
	faults.Covers(t, 107)
	s := &site{ours: servers.NewDKIMKey(t, stage.Domain)}
	s.theirs, s.decoder = s.ours, stage.StartDecoder(t)
	key := filepath.Join(t.TempDir(), "dkim.key") // without the dot, rspamd takes the path for base64
	s.ours.Write(t, key)
	s.rspamd = servers.StartRspamd(t, servers.RspamdConfig{Local: map[string]string{
		"dkim_signing.conf": fmt.Sprintf("path = %q;\nselector = %q;\n", key, s.ours.Selector),
	}})
	s.installation = newInstallation(t, map[string]string{"127.0.0.1:11332": s.rspamd.Milter})
	signer := strings.Replace(s.block(signerBehind), "127.0.0.1:8891", "127.0.0.1:11332", 1)
	s.startPostfix(s.block(mainCf)+"smtpd_milters = inet:127.0.0.1:11332\nsmtpd_authorized_xclient_hosts = 127.0.0.0/8\n",
		s.service("submission")+s.block(addedSubmission)+strings.Replace(s.block(behindSubmission), noMilters, signer, 1))
	s.startDetach()

	ours, file := "wilhelmina@"+stage.Domain, stage.FileOf("rspamd.bin", stage.Noise(55, 120_000))
	reply := s.send(t, "submission", ourUser, ours, letter(ours, "signed by rspamd", file))
	mail := s.box.Wait(t, servers.QueueID(reply)).Data
	s.decoder.Parse(t, mail).CheckFiles(t, file)
	wantSigned(t, stage.Domain, s.signatures(t, mail))
}
