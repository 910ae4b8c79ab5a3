package mail

import (
	"bytes"
	"io"
	netmail "net/mail"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

var clearSigned = regexp.MustCompile(`(?s)-----BEGIN PGP SIGNED MESSAGE-----.*?-----END PGP SIGNATURE-----`)

// GnuPG finds the signature of a clear-signed text as good after Detach as before, also if the text
// has lines below which a notice would otherwise stand.
func TestGnuPGVerifiesRewrittenMail(t *testing.T) {
	faults.Covers(t, 57)
	servers.Need(t, "gpg")
	home := t.TempDir()
	gpg := func(stdin string, args ...string) (string, error) {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		return string(out), err
	}
	t.Cleanup(func() { exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	_, err := gpg("", "--quick-generate-key", stage.Sender, "ed25519", "sign")
	must.Succeed(t, err)
	d := stage.Configure(t, stage.Setup{URL: "https://files.example.org", Policy: "min_size = \"1\""})
	for name, words := range map[string]string{
		"words":         "Yes, agreed.\r\n",
		"Outlook reply": "Yes.  \r\n\r\nFrom: Bob\r\nSent: Monday\r\nTo: Ann\r\nSubject: contract\r\n\r\nPlease confirm.\r\n",
		"quotation":     "Grüße\r\n\r\nOn 1 May 2026, Bob wrote:\r\n> old\r\n",
		"signature":     "Hi\r\n-- \r\nAnn\t\r\n",
		"separator":     "Hi\r\n\r\n-----Original Message-----\r\nFrom: Bob\r\n\r\nold\r\n",
	} {
		signed, err := gpg(words, "--clearsign")
		must.Succeed(t, err)
		signed = strings.ReplaceAll(strings.ReplaceAll(signed, "\r\n", "\n"), "\n", "\r\n")
		for _, encoding := range []string{"8bit", "quoted-printable", "base64"} {
			for _, file := range []string{"report.pdf", "报告.pdf"} {
				body := "Hello\r\n\r\n" + signed + "\r\nOn 2 May 2026, Carol wrote:\r\n> older\r\n"
				rewritten := d.Pipe(t, "filter", strings.NewReader(lettered(text("plain", encoding, body), file)))
				m, err := netmail.ReadMessage(bytes.NewReader(rewritten))
				must.Succeed(t, err)
				raw, err := io.ReadAll(m.Body)
				must.Succeed(t, err)
				content, _, err := transfer.DecodeText(strings.ToLower(m.Header.Get("Content-Transfer-Encoding")), raw)
				must.Succeed(t, err)
				found := clearSigned.FindString(string(content))
				if _, err := gpg(found, "--verify"); err != nil || !strings.Contains(string(content), "https://files.example.org/") {
					t.Errorf("%s, %s, %s: gpg --verify: %v; want a good signature and a link:\n%s", name, encoding, file, err, content)
				}
			}
		}
	}
}
