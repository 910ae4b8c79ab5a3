package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nkirchhoffer/detach-mta/cmd/detach/mailbox"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"detach": main})
}

// TestScripts runs the scripts in testdata, one for each promise. Their commands, beside
// testscript's own, in the order in which a script uses them:
//
//	nexthop                 runs a mail server that accepts everything, at $NEXTHOP
//	config FILE [LINE...]   writes a configuration with free addresses $PROXY, $GATEWAY and $ADMIN
//	attachment FILE SIZE    writes random bytes
//	mail FILE ATTACHMENT    writes a mail with this attachment
//	ready                   waits until the running detach says so
//	send CODE FILE          sends a mail through $PROXY, and wants this reply
//	delivered COUNT [FILE]  wants this number of mails to have arrived, and writes the last one
//	restorelink FILE        sets $LINK and $CID from the Detach-Restore field of a mail
//	travel FILE FILE        writes a mail as a mailbox returns it: LF, more fields, ours folded
//	forward FILE FILE       writes a mail that has another one attached, in base64
//	refield FILE FILE CID A writes a mail with another link in Detach-Restore
//	deny CID                revokes an object
//	files DIR COUNT [NAME]  wants this number of files in a folder, one of them called NAME
//	link FILE               sets $LINK, $CID and $FRAGMENT from the first link in a mail
//	exits CODE COMMAND...   runs a command, and wants this exit code
//	renamed                 gives the gateway the name localhost in DETACH_GATEWAY_URL and $NEWURL
//	stale FILE              makes a socket as a killed process leaves it
//	fetch CODE URL          wants this status of a web server, and prints the body
//	kubo                    runs an IPFS node, with its RPC at $KUBO
//
// The condition [kubo] says whether there is an IPFS node.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Values["world"] = &world{t: t}
			e.Setenv("DETACH_STORE_MIN_FREE", "0") // a script must not depend on how full this disk is
			return nil
		},
		Condition: haveServer,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"nexthop": nextHop, "config": writeConfig, "attachment": attachment, "mail": writeTestMail, "ready": ready,
			"send": send, "delivered": delivered, "link": findLink, "restorelink": findRestoreLink, "travel": travel, "forward": forward,
			"kubo": startKubo, "refield": refield, "deny": deny, "files": files, "exits": exits, "fetch": fetchURL, "stale": stale,
			"renamed": renamed,
		},
	})
}

// world is the surroundings of one script.
type world struct {
	t   *testing.T // the test of all scripts
	box *mailbox.Mailbox
}

func haveServer(name string) (bool, error) {
	if name != "kubo" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	_, err := servers.KuboBinary()
	if os.Getenv("CI") == "" {
		return err == nil, nil
	}
	return true, err
}

func startKubo(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("KUBO", servers.Kubo(ts.Value("world").(*world).t).API())
}

func nextHop(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	box := mailbox.New(nil)
	server := box.SMTP()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	ts.Defer(func() {
		server.Close()
		<-done
	})
	ts.Value("world").(*world).box = box
	ts.Setenv("NEXTHOP", l.Addr().String())
}

func writeConfig(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range []string{"PROXY", "GATEWAY", "ADMIN"} {
		ts.Setenv(name, servers.FreeAddr(ts.Value("world").(*world).t))
	}
	text := fmt.Sprintf("data_dir = %q\n[[proxy]]\nlisten = %q\nreinject = %q\nmin_size = \"1KB\"\n", ts.MkAbs("data"), ts.Getenv("PROXY"), ts.Getenv("NEXTHOP"))
	for _, line := range args[1:] {
		text += line + "\n"
	}
	text += fmt.Sprintf("[gateway]\nlisten = %q\nurl = \"http://%[1]s\"\n[admin]\nlisten = %q\n",
		ts.Getenv("GATEWAY"), ts.Getenv("ADMIN"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func renamed(ts *testscript.TestScript, _ bool, _ []string) {
	_, port, err := net.SplitHostPort(ts.Getenv("GATEWAY"))
	ts.Check(err)
	ts.Setenv("NEWURL", "http://localhost:"+port)
	ts.Setenv("DETACH_GATEWAY_URL", ts.Getenv("NEWURL"))
}

func attachment(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := make([]byte, size)
	_, err = rand.Read(b)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

func writeTestMail(ts *testscript.TestScript, _ bool, args []string) {
	var b bytes.Buffer
	b.WriteString("From: secret-sender@example.org\r\nTo: secret-recipient@example.org\r\nSubject: secret subject\r\nMessage-ID: <" + rand.Text() + "@example.org>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n" +
		"--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=secret-name.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(ts.ReadFile(args[1])))), 76) {
		b.Write(append(line, "\r\n"...))
	}
	b.WriteString("--b--\r\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

func ready(ts *testscript.TestScript, _ bool, _ []string) {
	// The other process has no way to tell: ask it again and again.
	deadline := time.Now().Add(servers.Patience)
	ask := func() error { return answers(http.StatusOK, "http://"+ts.Getenv("ADMIN")+"/healthz", nil) }
	err := ask()
	for ; err != nil && time.Now().Before(deadline); err = ask() {
		time.Sleep(10 * time.Millisecond)
	}
	ts.Check(err)
}

func answers(want int, url string, body *bytes.Buffer) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("%s, want %d", resp.Status, want)
	}
	if body != nil {
		_, err = body.ReadFrom(resp.Body)
	}
	return err
}

func fetchURL(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var body bytes.Buffer
	err = answers(want, args[1], &body)
	// An answer of readyz may be a second old.
	for until := time.Now().Add(servers.Patience); err != nil && strings.HasSuffix(args[1], "/readyz") && time.Now().Before(until); {
		time.Sleep(100 * time.Millisecond)
		err = answers(want, args[1], &body)
	}
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), body.String())
}

func send(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	c, err := smtp.Dial(ts.Getenv("PROXY"))
	ts.Check(err)
	defer c.Close()
	err = c.SendMail("secret-sender@example.org", []string{"secret-recipient@example.org"}, strings.NewReader(ts.ReadFile(args[1])))
	got := 250
	if refused, ok := errors.AsType[*smtp.SMTPError](err); ok {
		got = refused.Code
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("reply %d (%v), want %d", got, err, want)
	}
	ts.Check(c.Quit())
}

func delivered(ts *testscript.TestScript, _ bool, args []string) {
	mails := ts.Value("world").(*world).box.Mails()
	if strconv.Itoa(len(mails)) != args[0] {
		ts.Fatalf("%d mails delivered, want %s", len(mails), args[0])
	}
	if len(args) > 1 {
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), mails[0].Raw, 0o600))
	}
}

func findLink(ts *testscript.TestScript, _ bool, args []string) {
	l, err := detachLink(&mailbox.Mail{Raw: []byte(ts.ReadFile(args[0]))})
	ts.Check(err)
	ts.Setenv("LINK", l.URL())
	ts.Setenv("CID", l.CID.String())
	ts.Setenv("FRAGMENT", l.Fragment.Encode())
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func stale(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

func findRestoreLink(ts *testscript.TestScript, _ bool, args []string) {
	links, err := skeleton.Links(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	ts.Setenv("LINK", links[0].URL())
	ts.Setenv("CID", links[0].CID.String())
}

func travel(ts *testscript.TestScript, _ bool, args []string) {
	mail := "From someone@example.org Sun Nov 22 20:00:00 2026\nReturn-Path: <someone@example.org>\nDelivered-To: box@example.org\n" +
		"Received: from mx.example.org\n\tby imap.example.org; Sun, 22 Nov 2026 20:00:00 +0000\n" + strings.ReplaceAll(ts.ReadFile(args[0]), "\r\n", "\n")
	mail = strings.Replace(mail, "\nDetach-Restore: ", "\ndetach-restore:\n\t", 1)
	mail = strings.Replace(mail, "\n\n", "\nX-Spam-Status: No\nStatus: RO\n\n", 1)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(mail), 0o600))
}

func forward(ts *testscript.TestScript, _ bool, args []string) {
	mail := "From: someone@example.org\nSubject: Fwd\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=f\n\n--f\n\nsee below\n" +
		"--f\nContent-Type: application/octet-stream; name=mail.eml\nContent-Transfer-Encoding: base64\n\n"
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString([]byte(ts.ReadFile(args[0])))), 76) {
		mail += string(line) + "\n"
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(mail+"\n--f--\n"), 0o600))
}

var restoreField = regexp.MustCompile(`Detach-Restore: .*`)

func refield(ts *testscript.TestScript, _ bool, args []string) {
	field := "Detach-Restore: https://files.example.org/" + args[2] + "#" + args[3] + "\r"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), restoreField.ReplaceAllLiteral([]byte(ts.ReadFile(args[0])), []byte(field)), 0o600))
}

func deny(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs("data/denied"), []byte(args[0]+"\n"), 0o600))
}

func files(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if names := fmt.Sprint(entries); strconv.Itoa(len(entries)) != args[1] || len(args) > 2 && !strings.Contains(names, args[2]) {
		ts.Fatalf("%s has %s, want %q", args[0], names, args[1:])
	}
}
