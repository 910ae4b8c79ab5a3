package docs

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// The guide works as printed, for mail from outside and for submission, with a Postfix before and
// behind Detach.
func TestPostfixGuideBeforeTheQueue(t *testing.T) {
	servers.Need(t, "swaks")
	python := stage.StartDecoder(t)
	i := newInstallation(t, make(map[string]string))
	i.startPostfix("local_header_rewrite_clients = permit_inet_interfaces\n"+i.block(mainCf),
		i.service("smtp")+i.block(addedInbound)+i.service("submission")+i.block(addedSubmission)+
			i.block(behindInbound)+i.block(behindSubmission))

	t.Run("detach is down", func(t *testing.T) {
		if reply := servers.Send(t, i.addr["smtp"], "", stage.Message(stage.TextAndPDF)); reply != "451 4.3.0 Error: queue file write error" {
			t.Errorf("the sender got %q, want the 451 of the guide", reply)
		}
		i.pf.WaitLog(`connect to proxy filter .*: Connection refused`)
	})

	d := i.startDetach()
	if out, err := exec.Command(stage.Binary(), "check", "--config", d.Config).CombinedOutput(); err != nil {
		t.Errorf("detach check: %v\n%s", err, out)
	}
	for _, door := range []string{"smtp", "submission"} {
		t.Run(door, func(t *testing.T) {
			file := stage.Attachment{Name: "guide-" + door + ".bin", Content: stage.Noise(51, 120_000)}
			path := filepath.Join(t.TempDir(), file.Name)
			stage.Must(t, os.WriteFile(path, file.Content, 0o600))
			shell := strings.NewReplacer("localhost:25", i.addr[door], "user@example.org", stage.Recipient, "you@example.org", "wilhelmina",
				"/usr/local/bin/detach", path, "swaks ", "swaks --local-interface 127.0.0.9 ").Replace(i.block("shell"))
			out, err := exec.Command("sh", "-c", shell).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", shell, err, stage.LastLines(string(out), 10))
			}
			// The sender has no domain. Postfix would complete the From field of a local client,
			// but XFORWARD says that the client is not local.
			mail := i.box.Wait(t, servers.QueueID(string(out))).Data
			if !strings.Contains(string(mail), "From: wilhelmina\r\n") {
				t.Errorf("the From field was changed:\n%.1500s", mail)
			}
			python.Parse(t, mail).CheckFiles(t, file)
		})
	}
}

// A Postfix whose processes are all busy shortens its time limits. The server behind keeps waiting
// for a client that sends an attachment slowly, and answers the NOOPs that it hears meanwhile.
func TestPostfixBehindIsPatientUnderStress(t *testing.T) {
	faults.Covers(t, 20)
	i := newInstallation(t, make(map[string]string))
	i.startPostfix("stress = yes\nsmtpd_timeout = ${stress?{2}:{300}}s\n", i.service("smtp")+i.block(behindInbound)+i.block(behindSubmission))
	i.startDetach()
	for _, proxy := range []string{"127.0.0.1:10025", "127.0.0.1:10035"} {
		half := len(stage.TextAndPDF) / 2
		slow, rest := io.Pipe()
		go func() {
			io.WriteString(rest, stage.TextAndPDF[:half])
			time.Sleep(4 * time.Second) // twice what the front would wait
			io.WriteString(rest, stage.TextAndPDF[half:])
			rest.Close()
		}()
		if reply := servers.Send(t, i.addr[proxy], "", stage.Stream(slow)); servers.QueueID(reply) == "" {
			t.Errorf("%s: a slow client got %q, want the queue id of the Postfix behind", proxy, reply)
		}
	}
	for _, behind := range []string{"127.0.0.1:10026", "127.0.0.1:10036"} {
		c := servers.Connect(t, i.addr[behind])
		for n := range 900 { // after the second, each is an error for Postfix
			if reply, err := c.Cmd("NOOP"); err != nil || !strings.HasPrefix(reply, "250 ") {
				t.Fatalf("%s: NOOP %d got %q, %v", behind, n, reply, err)
			}
		}
	}
}
