package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// guide is the fenced blocks of docs/postfix.md by their first line, a comment that names their
// file.
type guide map[string]string

var fenced = regexp.MustCompile("(?ms)^```(?:cf|toml|sh)\n(.*?)^```$")

func readGuide(t *testing.T) guide {
	t.Helper()
	g := make(guide)
	for _, m := range fenced.FindAllStringSubmatch(stage.ReadFile(t, stage.Path("docs", "postfix.md")), -1) {
		title, body, _ := strings.Cut(m[1], "\n")
		if !strings.HasPrefix(title, "# ") {
			title, body = "shell", m[1]
		}
		g[strings.TrimPrefix(title, "# ")] = body
	}
	return g
}

// block returns a block of the guide with this test's ports and folders.
func (g guide) block(t *testing.T, title string, fill *strings.Replacer) string {
	t.Helper()
	body, ok := g[title]
	if !ok {
		t.Fatalf("docs/postfix.md has no block %q", title)
	}
	return fill.Replace(body)
}

const (
	behindInbound    = "/etc/postfix/master.cf: the Postfix behind, for mail from outside"
	behindSubmission = "/etc/postfix/master.cf: the Postfix behind, for mail of your own users"
	addedInbound     = "/etc/postfix/master.cf: added to smtp"
	addedSubmission  = "/etc/postfix/master.cf: added to submission"
	afterQueue       = "/etc/postfix/master.cf: added to smtp, after the queue"
	wayAfterQueue    = "/etc/postfix/master.cf: the way to Detach, after the queue"
)

// The guide works as printed, for mail from outside and for submission, with a Postfix before and
// behind Detach.
func TestPostfixGuideBeforeTheQueue(t *testing.T) {
	servers.Need(t, "swaks")
	g := readGuide(t)
	python := stage.StartDecoder(t)
	box := servers.NewMailbox(t)
	addr := make(map[string]string)
	for _, name := range []string{"127.0.0.1:10025", "127.0.0.1:10026", "127.0.0.1:10035", "127.0.0.1:10036", "127.0.0.1:8080", "127.0.0.1:9090", "smtp", "submission"} {
		addr[name] = servers.FreeAddr(t)
	}
	dir := t.TempDir()
	pairs := []string{"/var/lib/detach", filepath.Join(dir, "data"), "https://files.example.org", "http://" + addr["127.0.0.1:8080"]}
	for printed, here := range addr {
		if strings.Contains(printed, ":") {
			pairs = append(pairs, printed, here)
		}
	}
	fill := strings.NewReplacer(pairs...)

	pf := stage.StartPostfix(t, servers.PostfixConfig{
		Destination: box.Addr,
		Main:        "local_header_rewrite_clients = permit_inet_interfaces\n" + g.block(t, "/etc/postfix/main.cf", fill),
		Master: addr["smtp"] + " inet n - n - - smtpd\n" + g.block(t, addedInbound, fill) +
			addr["submission"] + " inet n - n - - smtpd\n" + g.block(t, addedSubmission, fill) +
			g.block(t, behindInbound, fill) + g.block(t, behindSubmission, fill),
	})

	t.Run("detach is down", func(t *testing.T) {
		if reply := servers.Send(t, addr["smtp"], "", stage.Message(stage.TextAndPDF)); reply != "451 4.3.0 Error: queue file write error" {
			t.Errorf("the sender got %q, want the 451 of the guide", reply)
		}
		pf.WaitLog(`connect to proxy filter .*: Connection refused`)
	})

	config := g.block(t, "/etc/detach.toml", fill) + fill.Replace("[admin]\nlisten = \"127.0.0.1:9090\"\n")
	d := stage.ConfigureAs(t, dir, config)
	d.Start(t)
	if out, err := exec.Command(stage.Binary(), "check", "--config", d.Config).CombinedOutput(); err != nil {
		t.Errorf("detach check: %v\n%s", err, out)
	}
	for _, door := range []string{"smtp", "submission"} {
		t.Run(door, func(t *testing.T) {
			file := stage.Attachment{Name: "guide-" + door + ".bin", Content: stage.Noise(51, 120_000)}
			path := filepath.Join(t.TempDir(), file.Name)
			stage.Must(t, os.WriteFile(path, file.Content, 0o600))
			shell := strings.NewReplacer("localhost:25", addr[door], "user@example.org", stage.Recipient, "you@example.org", "wilhelmina",
				"/usr/local/bin/detach", path, "swaks ", "swaks --local-interface 127.0.0.9 ").Replace(g["shell"])
			out, err := exec.Command("sh", "-c", shell).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", shell, err, stage.LastLines(string(out), 10))
			}
			// The sender has no domain. Postfix would complete the From field of a local client,
			// but XFORWARD says that the client is not local.
			mail := box.Wait(t, servers.QueueID(string(out))).Data
			if !strings.Contains(string(mail), "From: wilhelmina\r\n") {
				t.Errorf("the From field was changed:\n%.1500s", mail)
			}
			python.Parse(t, mail).CheckFiles(t, file)
		})
	}
}

// The guide's other set-up, Detach after the queue, is for a verifying milter on port 25.
func TestPostfixGuideAfterTheQueue(t *testing.T) {
	g := readGuide(t)
	python := stage.StartDecoder(t)
	box := servers.NewMailbox(t)
	front, proxy, behind := servers.FreeAddr(t), servers.FreeAddr(t), servers.FreeAddr(t)
	_, port, _ := strings.Cut(proxy, ":")
	fill := strings.NewReplacer("[127.0.0.1]:10025", "[127.0.0.1]:"+port, "127.0.0.1:10026", behind)
	pf := stage.StartPostfix(t, servers.PostfixConfig{
		Destination: box.Addr,
		Master:      front + " inet n - n - - smtpd\n" + g.block(t, afterQueue, fill) + g.block(t, wayAfterQueue, fill) + g.block(t, behindInbound, fill),
	})
	stage.Serve(t, stage.Setup{Listen: proxy, Reinject: behind})
	servers.Send(t, front, "127.0.0.9", stage.Message(stage.TextAndPDF))
	servers.Eventually(t, servers.Patience, "the mail", func() bool { return len(box.Mails()) > 0 })
	python.Parse(t, box.Mails()[0].Data).CheckFiles(t, stage.Report)
	pf.WaitLog(`postfix/detached/smtpd.*orig_client=unknown\[127\.0\.0\.9\]`)
}
