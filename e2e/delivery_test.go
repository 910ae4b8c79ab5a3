package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// onEachStore runs a test with the embedded store and with a real kubo.
func onEachStore(t *testing.T, test func(t *testing.T, s store)) {
	t.Run("embedded", func(t *testing.T) { test(t, store{}) })
	t.Run("kubo", func(t *testing.T) { test(t, startKubo(t)) })
}

func TestHandMadeMails(t *testing.T) {
	onEachStore(t, func(t *testing.T, s store) {
		python := startDecoder(t)
		c := startChain(t, s.api(), "normalize")
		var visits []visit
		for name, mail := range map[string]struct {
			text  string
			files []attachment
		}{
			"text and a PDF":      {textAndPDF, []attachment{report}},
			"alternative and two": {alternativeAndTwo, []attachment{surprise, table}},
			"a scanner's PDF":     {scannersPDF, []attachment{scan}},
		} {
			t.Run(name, func(t *testing.T) {
				got := c.deliver(t, []byte(mail.text))
				if len(got) > 8<<10 {
					t.Errorf("%d bytes were delivered, want a mail without its attachments", len(got))
				}
				p := python.parse(t, got)
				links := p.links()
				if len(links) != len(mail.files) {
					t.Fatalf("%d links, want %d:\n%s", len(links), len(mail.files), got)
				}
				for i, l := range links {
					if !strings.HasPrefix(l.url, c.url+"/") {
						t.Errorf("the link begins with %.30q, want the gateway's address", l.url)
					}
					if hash, want := fileHash(t, l), mail.files[i].sha256(); hash != want {
						t.Errorf("%s: SHA-256 %s, want %s", mail.files[i].name, hash, want)
					}
					visits = append(visits, visit{
						Link: l.url, Name: mail.files[i].name, Device: "desktop", JavaScript: true, fragment: l.fragment, sha256: mail.files[i].sha256(),
					})
				}
				p.checkAll(t, hashes(mail.files))
				c.get(t, links[0], mail.files[0])
				if s.kubo == nil {
					c.get(t, links[0], mail.files[0], "--store", c.dataDir)
				} else {
					c.get(t, links[0], mail.files[0], "--api", s.api())
					c.get(t, links[0], mail.files[0], "--api", s.api(), "--keys", filepath.Join(c.dataDir, "keys"))
					s.openssl(t, links[0], mail.files[0].sha256())
				}
			})
		}
		if len(visits) == 0 {
			t.Fatal("no links to open")
		}
		phone, noscript := visits[0], visits[len(visits)-1]
		phone.Device, phone.Screenshot = "phone", fmt.Sprintf("%s-phone.png", s.name())
		noscript.JavaScript, noscript.Screenshot = false, fmt.Sprintf("%s-noscript.png", s.name())
		visits[0].Screenshot = fmt.Sprintf("%s-desktop.png", s.name())
		browse(t, append(visits, phone, noscript))
	})
}

// What is not detached arrives byte for byte, apart from the trace fields that Postfix puts on top.
func TestUntouchedMails(t *testing.T) {
	c := startChain(t, "", "normalize")
	for name, mail := range untouchable {
		t.Run(name, func(t *testing.T) {
			want := mail
			if !strings.HasSuffix(want, "\r\n") {
				want += "\r\n" // SMTP has no other way to say it
			}
			if got := c.deliver(t, []byte(mail)); string(got) != want {
				t.Errorf("delivered\n%q\nwant\n%q", abridged(got), abridged([]byte(want)))
			}
		})
	}
	if left := c.objects(t); len(left) > 0 {
		t.Errorf("objects were stored: %q", left)
	}
}

// get opens a link with the command line, which decrypts by itself.
func (d *detach) get(t *testing.T, l link, want attachment, flags ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "got")
	if out, err := exec.Command(binary, append([]string{"get", "-o", path, l.url}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("detach get %q: %v\n%s", flags, err, out)
	}
	content, err := os.ReadFile(path)
	must(t, err)
	if got := (attachment{content: content}).sha256(); got != want.sha256() {
		t.Errorf("detach get wrote SHA-256 %s, want %s", got, want.sha256())
	}
}

func hashes(files []attachment) (sums []string) {
	for _, f := range files {
		sums = append(sums, f.sha256())
	}
	return sums
}

func abridged(b []byte) []byte { return b[:min(len(b), 4000)] }

// swaks, the administrator's tool, run as docs/postfix.md has it: text, HTML and two files.
func TestSwaks(t *testing.T) {
	servers.Need(t, "swaks")
	python := startDecoder(t)
	c := startChain(t, "", "normalize")
	dir := t.TempDir()
	files := []attachment{{name: "swaks-picture.png", content: noise(21, 90_000)}, {name: "swaks-letter.pdf", content: noise(22, 200_000)}}
	args := []string{"--server", c.postfix.Front, "--local-interface", "127.0.0.5", "--from", sender, "--to", recipient,
		"--header", "Subject: sent by the swiss army knife", "--body", "here are two files"}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		must(t, os.WriteFile(path, f.content, 0o600))
		args = append(args, "--attach-type", "application/octet-stream", "--attach", "@"+path)
	}
	out, err := exec.Command("swaks", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("swaks: %v\n%s", err, lastLines(string(out), 12))
	}
	id := servers.QueueID(string(out))
	got, err := servers.StripTrace(c.box.Wait(t, id).Data, 2)
	must(t, err)
	p := python.parse(t, got)
	p.checkAll(t, hashes(files))
	links := p.links()
	if len(links) != len(files) {
		t.Fatalf("%d links, want %d:\n%s", len(links), len(files), got)
	}
	for i, l := range links {
		if hash := fileHash(t, l); hash != files[i].sha256() {
			t.Errorf("%s: SHA-256 %s, want %s", files[i].name, hash, files[i].sha256())
		}
	}
	if line := c.postfix.ClientLine(id); !strings.Contains(line, "orig_client=unknown[127.0.0.5]") {
		t.Errorf("the Postfix behind logged %q, want the original client 127.0.0.5", line)
	}
	if got := regexp.MustCompile(`from \S+ \(\S+ \[([\d.]+)\]\)`).FindAllSubmatch(c.box.Wait(t, id).Data, -1); len(got) < 2 || string(got[1][1]) != "127.0.0.5" {
		t.Errorf("the delivered mail's Received fields name %q, want 127.0.0.5 in the second", got)
	}
}

// The replies are the next hop's own, and come when it gives them.
func TestTransparency(t *testing.T) {
	c := startChain(t, "", "normalize")

	t.Run("original client by XFORWARD", func(t *testing.T) {
		reply := servers.Send(t, c.postfix.Front, "127.0.0.77", message([]byte(textAndPDF)))
		id := servers.QueueID(reply)
		if !regexp.MustCompile(`^250 2\.0\.0 Ok: queued as [0-9A-Za-z]+$`).MatchString(reply) {
			t.Fatalf("the sender got %q, want the reply of the Postfix behind with its queue id", reply)
		}
		if line := c.postfix.ClientLine(id); !strings.Contains(line, "orig_client=unknown[127.0.0.77]") {
			t.Errorf("the Postfix behind logged %q, want the original client 127.0.0.77", line)
		}
		c.box.Wait(t, id)
	})

	t.Run("unknown recipient is refused at RCPT", func(t *testing.T) {
		client, err := servers.Dial(c.postfix.Front, "")
		must(t, err)
		defer client.Close()
		for _, line := range []string{"EHLO client.example", "MAIL FROM:<" + sender + ">"} {
			if reply, err := client.Cmd("%s", line); err != nil || reply[0] != '2' {
				t.Fatalf("%s: %q, %v", line, reply, err)
			}
		}
		reply, err := client.Cmd("RCPT TO:<nobody@%s>", domain)
		if err != nil || !strings.HasPrefix(reply, "550 5.1.1 ") {
			t.Errorf("an unknown recipient got %q, %v, want 550 5.1.1", reply, err)
		}
		// The one beside is not touched by it.
		if reply, err := client.Cmd("RCPT TO:<%s>", recipient); err != nil || !strings.HasPrefix(reply, "250 ") {
			t.Errorf("a known recipient got %q, %v, want 250", reply, err)
		}
		client.Cmd("QUIT")
		c.postfix.WaitLog(`postfix/after/smtpd\[\d+\]: NOQUEUE: reject: RCPT from .*nobody@`)
	})
}
