//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/cmd/detach/mailbox"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// After SIGTERM in the middle of a mail, the mail is finished and delivered, and the exit code is
// 0.
func TestSIGTERMLetsMailsFinish(t *testing.T) {
	box := mailbox.New(nil)
	hop, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	smtpServer := box.SMTP()
	go func() { _ = smtpServer.Serve(hop) }()
	t.Cleanup(func() { _ = smtpServer.Close() })

	dir := t.TempDir()
	socket := filepath.Join(dir, "smtp")
	file := filepath.Join(dir, "detach.toml")
	text := fmt.Sprintf("data_dir = %q\n[[proxy]]\nlisten = \"unix:%s\"\nreinject = %q\n[gateway]\nlisten = \"127.0.0.1:0\"\nurl = \"http://localhost\"\n[admin]\nlisten = \"\"\n",
		dir, socket, hop.Addr())
	must.Succeed(t, os.WriteFile(file, []byte(text), 0o600))
	stderr, log := io.Pipe()
	lines, ended := make(chan string, 100), make(chan int, 1)
	go func() {
		for said := bufio.NewScanner(stderr); said.Scan(); {
			lines <- said.Text()
		}
	}()
	go func() { ended <- run(context.Background(), []string{"serve", "--config", file}, nil, nil, log) }()
	waitFor := func(text string) {
		for line := range lines {
			if strings.Contains(line, text) {
				return
			}
		}
	}
	waitFor("listening")
	waitFor("listening")

	conn, err := net.Dial("unix", socket)
	must.Succeed(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(servers.Patience))
	c := textproto.NewConn(conn)
	say := func(code int, line string) {
		t.Helper()
		if line != "" {
			must.Succeed(t, c.PrintfLine("%s", line))
		}
		if _, _, err := c.ReadResponse(code); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	say(220, "")
	say(250, "EHLO sender.example")
	say(250, "MAIL FROM:<a@example.org>")
	say(250, "RCPT TO:<b@example.org>")
	say(354, "DATA")
	must.Succeed(t, c.PrintfLine("Subject: x\r\n\r\nfirst half"))
	must.Succeed(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	waitFor("draining")
	say(250, "second half\r\n.")
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	mails := box.Mails()
	if len(mails) != 1 || !strings.HasSuffix(string(mails[0].Raw), "first half\r\nsecond half\r\n") {
		t.Errorf("delivered %d mails, want the whole one", len(mails))
	}
}
