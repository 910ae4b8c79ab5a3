package mail

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// Hand-made mails, as common programs write them, pass Postfix, Detach and Postfix. Each link gives
// its file to the command line, to openssl and to the browser.
func TestEveryLinkGivesItsFile(t *testing.T) {
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		python := stage.StartDecoder(t)
		c := stage.StartChain(t, s.API(), "normalize")
		var visits []stage.Visit
		for name, mail := range map[string]struct {
			text  string
			files []stage.Attachment
		}{
			"text and a PDF":      {stage.TextAndPDF, []stage.Attachment{stage.Report}},
			"alternative and two": {stage.AlternativeAndTwo, []stage.Attachment{stage.Surprise, stage.Table}},
			"a scanner's PDF":     {stage.ScannersPDF, []stage.Attachment{stage.Scan}},
		} {
			t.Run(name, func(t *testing.T) {
				got := c.Deliver(t, mail.text)
				if len(got) > 8<<10 {
					t.Errorf("%d bytes were delivered, want a mail without its attachments", len(got))
				}
				links := python.Parse(t, got).CheckFiles(t, mail.files...)
				for i, l := range links {
					if !strings.HasPrefix(l.URL, c.URL+"/") {
						t.Errorf("the link begins with %.30q, want the gateway's address", l.URL)
					}
					visits = append(visits, l.Visit(mail.files[i].Name, mail.files[i].SHA256()))
				}
				get(t, links[0], mail.files[0])
				if s.Kubo == nil {
					get(t, links[0], mail.files[0], "--store", c.DataDir)
				} else {
					get(t, links[0], mail.files[0], "--api", s.API())
					get(t, links[0], mail.files[0], "--api", s.API(), "--keys", filepath.Join(c.DataDir, "keys"))
					openssl(t, s.Kubo, links[0], mail.files[0].SHA256())
				}
			})
		}
		if len(visits) == 0 {
			t.Fatal("no links to open")
		}
		phone, noscript := visits[0], visits[len(visits)-1]
		phone.Device, phone.Screenshot = "phone", fmt.Sprintf("%s-phone.png", s.Name())
		noscript.JavaScript, noscript.Screenshot = false, fmt.Sprintf("%s-noscript.png", s.Name())
		visits[0].Screenshot = fmt.Sprintf("%s-desktop.png", s.Name())
		stage.Browse(t, append(visits, phone, noscript))
	})
}

// A mail with nothing to detach arrives byte for byte, apart from the trace fields that Postfix
// puts on top.
func TestMailsWithNothingToDetachArriveUntouched(t *testing.T) {
	c := stage.StartChain(t, "", "normalize")
	for name, mail := range stage.Untouchable {
		t.Run(name, func(t *testing.T) {
			want := mail
			if !strings.HasSuffix(want, "\r\n") {
				want += "\r\n" // SMTP cannot send a last line without it
			}
			if got := c.Deliver(t, mail); string(got) != want {
				t.Errorf("delivered\n%q\nwant\n%q", abridged(got), abridged([]byte(want)))
			}
		})
	}
	if left := c.Objects(t); len(left) > 0 {
		t.Errorf("objects were stored: %q", left)
	}
}

// get opens a link with detach get, which decrypts the file itself.
func get(t *testing.T, l stage.Link, want stage.Attachment, flags ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "got")
	if out, err := exec.Command(stage.Binary(), append([]string{"get", "-o", path, l.URL}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("detach get %q: %v\n%s", flags, err, out)
	}
	if got := stage.SHA256([]byte(stage.ReadFile(t, path))); got != want.SHA256() {
		t.Errorf("detach get wrote SHA-256 %s, want %s", got, want.SHA256())
	}
}

// Both Postfixes know the original client of a mail that swaks, the administrator's tool, has sent.
func TestOriginalClientOfAMailBySwaks(t *testing.T) {
	servers.Need(t, "swaks")
	python := stage.StartDecoder(t)
	c := stage.StartChain(t, "", "normalize")
	dir := t.TempDir()
	files := []stage.Attachment{{Name: "swaks-picture.png", Content: stage.Noise(21, 90_000)}, {Name: "swaks-letter.pdf", Content: stage.Noise(22, 200_000)}}
	args := []string{"--server", c.Postfix.Front, "--local-interface", "127.0.0.5", "--from", stage.Sender, "--to", stage.Recipient,
		"--header", "Subject: sent by the swiss army knife", "--body", "here are two files"}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		stage.Must(t, os.WriteFile(path, f.Content, 0o600))
		args = append(args, "--attach-type", "application/octet-stream", "--attach", "@"+path)
	}
	out, err := exec.Command("swaks", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("swaks: %v\n%s", err, stage.LastLines(string(out), 12))
	}
	id := servers.QueueID(string(out))
	got, err := servers.StripTrace(c.Box.Wait(t, id).Data, 2)
	stage.Must(t, err)
	python.Parse(t, got).CheckFiles(t, files...)
	if line := c.Postfix.ClientLine(id); !strings.Contains(line, "orig_client=unknown[127.0.0.5]") {
		t.Errorf("the Postfix behind logged %q, want the original client 127.0.0.5", line)
	}
	if got := regexp.MustCompile(`from \S+ \(\S+ \[([\d.]+)\]\)`).FindAllSubmatch(c.Box.Wait(t, id).Data, -1); len(got) < 2 || string(got[1][1]) != "127.0.0.5" {
		t.Errorf("the delivered mail's Received fields name %q, want 127.0.0.5 in the second", got)
	}
}

// The client gets the next hop's own replies, immediately.
func TestRepliesAreTheNextHops(t *testing.T) {
	c := stage.StartChain(t, "", "normalize")

	t.Run("original client by XFORWARD", func(t *testing.T) {
		reply := servers.Send(t, c.Postfix.Front, "127.0.0.77", stage.Message(stage.TextAndPDF))
		id := servers.QueueID(reply)
		if !regexp.MustCompile(`^250 2\.0\.0 Ok: queued as [0-9A-Za-z]+$`).MatchString(reply) {
			t.Fatalf("the sender got %q, want the reply of the Postfix behind with its queue id", reply)
		}
		if line := c.Postfix.ClientLine(id); !strings.Contains(line, "orig_client=unknown[127.0.0.77]") {
			t.Errorf("the Postfix behind logged %q, want the original client 127.0.0.77", line)
		}
		c.Box.Wait(t, id)
	})

	t.Run("unknown recipient is refused at RCPT", func(t *testing.T) {
		client := servers.Connect(t, c.Postfix.Front)
		for _, line := range []string{"EHLO client.example", "MAIL FROM:<" + stage.Sender + ">"} {
			if reply, err := client.Cmd("%s", line); err != nil || reply[0] != '2' {
				t.Fatalf("%s: %q, %v", line, reply, err)
			}
		}
		reply, err := client.Cmd("RCPT TO:<nobody@%s>", stage.Domain)
		if err != nil || !strings.HasPrefix(reply, "550 5.1.1 ") {
			t.Errorf("an unknown recipient got %q, %v, want 550 5.1.1", reply, err)
		}
		// The other recipient is accepted.
		if reply, err := client.Cmd("RCPT TO:<%s>", stage.Recipient); err != nil || !strings.HasPrefix(reply, "250 ") {
			t.Errorf("a known recipient got %q, %v, want 250", reply, err)
		}
		client.Cmd("QUIT")
		c.Postfix.WaitLog(`postfix/after/smtpd\[\d+\]: NOQUEUE: reject: RCPT from .*nobody@`)
	})
}

// A mail that passes a second time has nothing left to detach, and stays the same byte for byte.
func TestSecondPassChangesNothing(t *testing.T) {
	faults.Covers(t, 72)
	d := stage.Serve(t, stage.Setup{Policy: `min_size = "1"`})
	for _, mail := range []string{stage.TextAndPDF, stage.AlternativeAndTwo, stage.ScannersPDF} {
		for range 2 {
			stage.Gets(t, d.Proxy, "250", mail)
			mails := d.Box.Mails()
			before := mail
			mail = string(mails[len(mails)-1].Data)
			if len(mails)%2 == 0 && mail != before {
				t.Errorf("the second time changed it:\n%s\n\nit was\n\n%s", mail, before)
			}
		}
	}
}

// Two Detaches that are each other's next hop refuse mail and keep running. Each connection to one
// opens a connection to the other, until neither has a session left.
func TestTwoNextHopsOfEachOtherRefuseMail(t *testing.T) {
	faults.Covers(t, 36)
	one, other := servers.FreeAddr(t), servers.FreeAddr(t)
	pair := []*stage.Detach{
		stage.Configure(t, stage.Setup{Listen: one, Reinject: other}),
		stage.Configure(t, stage.Setup{Listen: other, Reinject: one}),
	}
	for _, d := range pair {
		d.Start(t)
	}
	for _, d := range pair {
		if _, err := servers.Dial(d.Proxy, ""); err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
			t.Errorf("a client got %v, want 421", err)
		}
	}
	for _, d := range pair {
		if m := sessionsTotal.FindStringSubmatch(d.Ask(t, "/metrics")); m == nil || len(m[1]) > 4 {
			t.Errorf("two clients made this many sessions: %q", m)
		}
	}
}

var sessionsTotal = regexp.MustCompile(`(?m)^detach_smtp_sessions_total (\S+)$`)

func abridged(b []byte) []byte { return b[:min(len(b), 4000)] }
