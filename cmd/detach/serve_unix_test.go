//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/cmd/detach/mailbox"
)

// After SIGTERM in the middle of a mail, the mail is finished and delivered, and the exit code is 0.
func TestSIGTERMLetsMailsFinish(t *testing.T) {
	box := mailbox.New(nil)
	hop, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	smtpServer := box.SMTP()
	go func() { _ = smtpServer.Serve(hop) }()
	t.Cleanup(func() { _ = smtpServer.Close() })

	dir := t.TempDir()
	socket := filepath.Join(dir, "smtp")
	file := filepath.Join(dir, "detach.toml")
	text := fmt.Sprintf("data_dir = %q\n[[proxy]]\nlisten = \"unix:%s\"\nreinject = %q\n[gateway]\nlisten = \"127.0.0.1:0\"\nurl = \"http://localhost\"\n[admin]\nlisten = \"\"\n",
		dir, socket, hop.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening := &waitWriter{want: "listening", count: 2, seen: make(chan struct{})}
	ended := make(chan int, 1)
	go func() { ended <- run(context.Background(), []string{"serve", "--config", file}, nil, nil, listening) }()
	<-listening.seen

	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := textproto.NewConn(conn)
	say := func(code int, line string) {
		t.Helper()
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				t.Fatal(err)
			}
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
	if err := c.PrintfLine("Subject: x\r\n\r\nfirst half"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	listening.waitFor("draining")
	say(250, "second half\r\n.")
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, listening)
	}
	mails := box.Mails()
	if len(mails) != 1 || !strings.HasSuffix(string(mails[0].Raw), "first half\r\nsecond half\r\n") {
		t.Errorf("delivered %d mails, want the whole one", len(mails))
	}
}

// waitWriter is a log that reports when it contains a text a number of times.
type waitWriter struct {
	mu    sync.Mutex
	b     bytes.Buffer
	want  string
	count int
	seen  chan struct{}
}

func (w *waitWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if w.want != "" && strings.Count(w.b.String(), w.want) >= w.count {
		close(w.seen)
		w.want = ""
	}
	return len(p), nil
}

func (w *waitWriter) waitFor(what string) {
	w.mu.Lock()
	if strings.Contains(w.b.String(), what) {
		w.mu.Unlock()
		return
	}
	w.want, w.count, w.seen = what, 1, make(chan struct{})
	seen := w.seen
	w.mu.Unlock()
	<-seen
}

func (w *waitWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
