package docs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// The blocks of docs/postfix.md by their first line, a comment that names their file.
const (
	detachToml           = "/etc/detach.toml"
	mainCf               = "/etc/postfix/main.cf"
	behindInbound        = "/etc/postfix/master.cf: the Postfix behind, for mail from outside"
	behindSubmission     = "/etc/postfix/master.cf: the Postfix behind, for mail of your own users"
	addedInbound         = "/etc/postfix/master.cf: added to smtp"
	addedSubmission      = "/etc/postfix/master.cf: added to submission"
	signerBehind         = "/etc/postfix/master.cf: the signer behind, in place of no_milters"
	inboundAfterQueue    = "/etc/postfix/master.cf: added to smtp, after the queue"
	submissionAfterQueue = "/etc/postfix/master.cf: added to submission, after the queue"
	wayAfterQueue        = "/etc/postfix/master.cf: the way to Detach, after the queue"
	behindAfterQueue     = "/etc/postfix/master.cf: behind, after the queue"
	pickup               = "/etc/postfix/master.cf: mail of this machine's own programs"
)

// noMilters is the line of the blocks behind that other blocks replace.
const noMilters = "  -o receive_override_options=no_milters\n"

var fenced = regexp.MustCompile("(?ms)^```(?:cf|toml|sh)\n(.*?)^```$")

// installation is a Postfix and a Detach that are configured by the blocks of docs/postfix.md.
type installation struct {
	*testing.T
	blocks map[string]string
	addr   map[string]string // host:port by the one in the guide, or by a service's name
	fill   *strings.Replacer // puts addr and the test's folders into a block
	dir    string
	box    *servers.Mailbox
	pf     *servers.Postfix
}

// newInstallation reads the guide. Each printed address gets one of the test's own, except those
// that addr has already.
func newInstallation(t *testing.T, addr map[string]string) *installation {
	t.Helper()
	i := &installation{T: t, blocks: make(map[string]string), addr: addr, dir: t.TempDir(), box: servers.NewMailbox(t)}
	for _, m := range fenced.FindAllStringSubmatch(stage.ReadFile(t, stage.Path("docs", "postfix.md")), -1) {
		title, body, _ := strings.Cut(m[1], "\n")
		if !strings.HasPrefix(title, "# ") {
			title, body = "shell", m[1]
		}
		i.blocks[strings.TrimPrefix(title, "# ")] = body
	}
	for _, name := range []string{"127.0.0.1:10025", "127.0.0.1:10026", "127.0.0.1:10035", "127.0.0.1:10036", "127.0.0.1:8080", "127.0.0.1:9090", "smtp", "submission", "submissions"} {
		addr[name] = servers.FreeAddr(t)
	}
	pairs := []string{"/var/lib/detach", filepath.Join(i.dir, "data"), "https://files.example.org", "http://" + addr["127.0.0.1:8080"]}
	for printed, here := range addr {
		if host, _, ok := strings.Cut(printed, ":"); ok {
			pairs = append(pairs, printed, here, "["+host+"]"+strings.TrimPrefix(printed, host), "["+host+"]"+strings.TrimPrefix(here, host))
		}
	}
	i.fill = strings.NewReplacer(pairs...)
	return i
}

// block returns a block of the guide as it is printed.
func (i *installation) block(title string) string {
	i.Helper()
	body, ok := i.blocks[title]
	if !ok {
		i.Fatalf("docs/postfix.md has no block %q", title)
	}
	return body
}

// behind returns a block for a Postfix behind, with another block in place of noMilters.
func (i *installation) behind(title, instead string) string {
	i.Helper()
	body := i.block(title)
	if strings.Count(body, noMilters) != 1 {
		i.Fatalf("the block %q does not keep the milters away:\n%s", title, body)
	}
	return strings.Replace(body, noMilters, i.block(instead), 1)
}

// service returns the first line of a front server in master.cf.
func (i *installation) service(name string) string { return i.addr[name] + " inet n - n - - smtpd\n" }

// startPostfix starts a Postfix with the guide's blocks.
func (i *installation) startPostfix(main, master string) {
	i.Helper()
	i.pf = stage.StartPostfix(i.T, servers.PostfixConfig{Destination: i.box.Addr, Main: i.fill.Replace(main), Master: i.fill.Replace(master)})
}

// startDetach starts Detach with the guide's configuration.
func (i *installation) startDetach() *stage.Detach {
	i.Helper()
	d := stage.ConfigureAs(i.T, i.dir, i.fill.Replace(i.block(detachToml)+"[admin]\nlisten = \"127.0.0.1:9090\"\n"))
	d.Start(i.T)
	return d
}
