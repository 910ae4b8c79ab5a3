package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Any IPFS tool reads what the embedded store keeps: its files go into a kubo as they are, under the CIDs that the links
// name, and what comes out of kubo is one openssl away from the attachment.
func TestEmbeddedStoreImportsIntoKubo(t *testing.T) {
	python := startDecoder(t)
	c := startChain(t, "", "normalize")
	k := startKubo(t)
	for _, mail := range []struct {
		text string
		file attachment
	}{{textAndPDF, report}, {alternativeAndTwo, surprise}} {
		links := python.parse(t, c.deliver(t, []byte(mail.text))).links()
		if len(links) == 0 {
			t.Fatal("no link in the mail")
		}
		l := links[0]
		car, err := os.ReadFile(filepath.Join(c.dataDir, "objects", l.cid+".car"))
		must(t, err)
		out := string(k.ipfs(car, "dag", "import", "--pin-roots"))
		if !strings.Contains(out, l.cid) {
			t.Errorf("ipfs dag import said %q, want the root %s", out, l.cid)
		}
		k.openssl(t, l, mail.file.sha256())
	}
}

// openssl decrypts what the node has with the key that share and fragment give: the whole format in one command line.
func (s store) openssl(t *testing.T, l link, want string) {
	t.Helper()
	servers.Need(t, "openssl")
	cmd := exec.Command("openssl", "enc", "-d", "-aes-256-ctr", "-K", l.key(t), "-iv", "0")
	cmd.Stdin = bytes.NewReader(s.ipfs(nil, "cat", l.cid+"/data"))
	plain, err := cmd.Output()
	must(t, err)
	if got := (attachment{content: plain}).sha256(); got != want {
		t.Errorf("openssl decrypts to SHA-256 %s, want %s", got, want)
	}
}

// With the store down the sender is asked to come back, and mail that needs no store goes its way.
func TestStoreDown(t *testing.T) {
	t.Run("kubo", func(t *testing.T) {
		k := startKubo(t)
		c := startChain(t, k.api(), "normalize")
		k.kubo.Stop()
		refusesOnlyAttachments(t, c)
	})
	t.Run("embedded", func(t *testing.T) {
		c := startChain(t, "", "normalize")
		// Root may write anywhere, so a folder is made unusable by a file in its place.
		objects := filepath.Join(c.dataDir, "objects")
		must(t, os.RemoveAll(objects))
		must(t, os.WriteFile(objects, nil, 0o600))
		refusesOnlyAttachments(t, c)
	})
}

func refusesOnlyAttachments(t *testing.T, c *chain) {
	t.Helper()
	reply := servers.Send(t, c.postfix.Front, "", message([]byte(textAndPDF)))
	if !strings.HasPrefix(reply, "451 ") {
		t.Errorf("a mail with an attachment got %q, want 451", reply)
	}
	c.deliver(t, []byte(untouchable["plain text"]))
	if got := len(c.box.Mails()); got != 1 {
		t.Errorf("%d mails were delivered, want the one without an attachment", got)
	}
	c.postfix.WaitEmpty(servers.Patience)
}

// A client that vanishes inside DATA leaves nothing anywhere, whether it talks to Postfix or to detach itself.
func TestClientVanishes(t *testing.T) {
	onEachStore(t, func(t *testing.T, s store) {
		c := startChain(t, s.api(), "normalize")
		var pins []string
		if s.kubo != nil {
			pins = s.pins()
		}
		half := strings.NewReplacer(base64Lines(report.content), base64Lines(noise(31, 24<<20))).Replace(textAndPDF)
		half = half[:strings.LastIndex(half, "\r\n--b1--")-100]
		for name, server := range map[string]string{"before Postfix": c.postfix.Front, "before detach": c.proxy} {
			t.Run(name, func(t *testing.T) {
				vanish(t, server, half, func() {
					if s.kubo == nil {
						servers.Eventually(t, servers.Patience, "the upload to begin", func() bool { return len(c.objects(t)) > 0 })
					}
				})
				servers.Eventually(t, servers.Patience, "an empty store", func() bool { return len(c.objects(t)) == 0 })
				servers.Eventually(t, servers.Patience, "detach to end the session", func() bool { return c.sessions() == 0 })
			})
		}
		if s.kubo != nil {
			servers.Eventually(t, servers.Patience, "no pin in kubo", func() bool { return slices.Equal(s.pins(), pins) })
		}
		for _, dir := range []string{c.tmp, filepath.Join(c.dataDir, "ledger")} {
			if left, err := os.ReadDir(dir); err != nil && !os.IsNotExist(err) || len(left) > 0 {
				t.Errorf("left in %s: %v, %v", filepath.Base(dir), left, err)
			}
		}
		if got := c.box.Mails(); len(got) > 0 {
			t.Errorf("delivered: %.200q", got[0].Data)
		}
		if queue := c.postfix.Queue(); len(queue) > 0 {
			t.Errorf("left in Postfix's queue: %q", queue)
		}
	})
}

// vanish sends the beginning of a mail and cuts the connection.
func vanish(t *testing.T, server, half string, before func()) {
	t.Helper()
	client, err := servers.Dial(server, "")
	must(t, err)
	defer client.Close()
	for _, line := range []string{"EHLO client.example", "MAIL FROM:<" + sender + ">", "RCPT TO:<" + recipient + ">", "DATA"} {
		if reply, err := client.Cmd("%s", line); err != nil || reply[0] > '3' {
			t.Fatalf("%s: %q, %v", line, reply, err)
		}
	}
	// More than the buffers on the way hold, so that a good part of it has reached the store.
	if _, err := client.Write([]byte(half)); err != nil {
		t.Fatal(err)
	}
	before()
}

// sessions counts the connections that are open to the Postfix behind: detach has one for each of its own.
func (c *chain) sessions() int {
	log := c.postfix.Log()
	return len(connected.FindAllString(log, -1)) - len(disconnected.FindAllString(log, -1))
}

var (
	connected    = regexp.MustCompile(`postfix/after/smtpd\[\d+\]: connect from`)
	disconnected = regexp.MustCompile(`postfix/after/smtpd\[\d+\]: disconnect from`)
)
