package mail

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// Any IPFS tool can read the embedded store. Its files go into a kubo unchanged, under the CIDs of
// the links, and openssl decrypts the data that kubo gives.
func TestEmbeddedStoreImportsIntoKubo(t *testing.T) {
	python := stage.StartDecoder(t)
	c := stage.StartChain(t, "", "normalize")
	k := servers.Kubo(t)
	for _, mail := range []struct {
		text string
		file stage.Attachment
	}{{stage.TextAndPDF, stage.Report}, {stage.AlternativeAndTwo, stage.Surprise}} {
		links := python.Parse(t, c.Deliver(t, mail.text)).Links()
		if len(links) == 0 {
			t.Fatal("no link in the mail")
		}
		l := links[0]
		car := stage.ReadFile(t, filepath.Join(c.DataDir, "objects", l.CID+".car"))
		out := k.RunInput(strings.NewReader(car), "dag", "import", "--pin-roots")
		if !strings.Contains(out, l.CID) {
			t.Errorf("ipfs dag import said %q, want the root %s", out, l.CID)
		}
		openssl(t, k, l, mail.file.SHA256())
	}
}

// openssl decrypts the node's data with the key made of share and fragment: the whole format in one
// command line.
func openssl(t *testing.T, k *servers.KuboNode, l stage.Link, want string) {
	t.Helper()
	servers.Need(t, "openssl")
	cmd := exec.Command("openssl", "enc", "-d", "-aes-256-ctr", "-K", l.Key(t), "-iv", "0")
	cmd.Stdin = strings.NewReader(k.Run("cat", l.CID+"/data"))
	plain, err := cmd.Output()
	stage.Must(t, err)
	if got := stage.SHA256(plain); got != want {
		t.Errorf("openssl decrypts to SHA-256 %s, want %s", got, want)
	}
}

// While the store is down, a mail with an attachment gets 451, and a mail that needs no store
// passes.
func TestStoreDownRefusesOnlyWhatNeedsIt(t *testing.T) {
	t.Run("kubo", func(t *testing.T) {
		k := servers.Kubo(t)
		c := stage.StartChain(t, k.API(), "normalize")
		k.Stop()
		refusesOnlyAttachments(t, c)
	})
	t.Run("embedded", func(t *testing.T) {
		c := stage.StartChain(t, "", "normalize")
		// Permissions would not keep root from writing, so a file replaces the folder.
		objects := filepath.Join(c.DataDir, "objects")
		stage.Must(t, os.RemoveAll(objects))
		stage.Must(t, os.WriteFile(objects, nil, 0o600))
		refusesOnlyAttachments(t, c)
	})
}

func refusesOnlyAttachments(t *testing.T, c *stage.Chain) {
	t.Helper()
	stage.Gets(t, c.Postfix.Front, "451", stage.TextAndPDF)
	c.Deliver(t, stage.Untouchable["plain text"])
	c.Box.Want(t, 1)
	c.Postfix.WaitEmpty(servers.Patience)
}

// A client that vanishes inside DATA leaves nothing anywhere, whether it talks to Postfix or to
// detach itself.
func TestClientThatVanishesLeavesNothing(t *testing.T) {
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		c := stage.StartChain(t, s.API(), "normalize")
		pins := s.Pins()
		half := strings.Replace(stage.TextAndPDF, stage.Base64Lines(stage.Report.Content), stage.Base64Lines(stage.Noise(31, 24<<20)), 1)
		half = half[:strings.LastIndex(half, "\r\n--b1--")-100]
		for name, server := range map[string]string{"before Postfix": c.Postfix.Front, "before detach": c.Proxy} {
			t.Run(name, func(t *testing.T) {
				client := stage.Begin(t, server)
				defer client.Close()
				// This is more than the buffers on the way hold, so the store gets a good part of
				// it.
				_, err := client.Write([]byte(half))
				stage.Must(t, err)
				if s.Kubo == nil {
					servers.Eventually(t, servers.Patience, "the upload to begin", func() bool { return len(c.Objects(t)) > 0 })
				}
				client.Close()
				servers.Eventually(t, servers.Patience, "an empty store", func() bool { return len(c.Objects(t)) == 0 })
				servers.Eventually(t, servers.Patience, "detach to end the session", func() bool { return sessions(c) == 0 })
			})
		}
		servers.Eventually(t, servers.Patience, "no pin in kubo", func() bool { return slices.Equal(s.Pins(), pins) })
		for _, dir := range []string{filepath.Join(c.DataDir, "tmp"), filepath.Join(c.DataDir, "ledger")} {
			if left, err := os.ReadDir(dir); err != nil && !os.IsNotExist(err) || len(left) > 0 {
				t.Errorf("left in %s: %v, %v", filepath.Base(dir), left, err)
			}
		}
		if got := c.Box.Mails(); len(got) > 0 {
			t.Errorf("delivered: %.200q", got[0].Data)
		}
		if queue := c.Postfix.Queue(); len(queue) > 0 {
			t.Errorf("left in Postfix's queue: %q", queue)
		}
	})
}

// sessions counts the open connections to the Postfix behind: detach has one for each session.
func sessions(c *stage.Chain) int {
	log := c.Postfix.Log()
	return len(connected.FindAllString(log, -1)) - len(disconnected.FindAllString(log, -1))
}

var (
	connected    = regexp.MustCompile(`postfix/after/smtpd\[\d+\]: connect from`)
	disconnected = regexp.MustCompile(`postfix/after/smtpd\[\d+\]: disconnect from`)
)
