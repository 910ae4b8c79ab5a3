package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// smallMail saves 4 KB like most mail: the same text twice, plain and as HTML.
func (l *lab) smallMail() string {
	return l.save("small", func(w io.Writer) error {
		const line = "The quick brown fox jumps over the lazy dog, and the dog sleeps on.\r\n"
		mail := "From: a@senders.example\r\nTo: b@recipients.example\r\nSubject: small\r\nMIME-Version: 1.0\r\n" +
			"Content-Type: multipart/alternative; boundary=b\r\n\r\n" +
			"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat(line, 26) +
			"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>" + strings.Repeat(line, 26) + "</p>\r\n--b--\r\n"
		_, err := io.WriteString(w, strings.ReplaceAll(mail, "\r", "")) // smtp-source puts CRLF where a LF is
		return err
	})
}

// manySmall sends the small mails to an address with Postfix's smtp-source, as a Postfix gives its
// mail to a filter: each on a connection of its own, 20 at a time.
func (l *lab) manySmall(addr, mail string, count int) func() float64 {
	return func() float64 {
		return seconds(func() {
			out, err := exec.Command(servers.LookPath("smtp-source"), "-s", "20", "-m", strconv.Itoa(count),
				"-f", "a@senders.example", "-t", "b@recipients.example", "-F", mail, addr).CombinedOutput()
			if err != nil {
				l.Fatalf("smtp-source: %v\n%s", err, out)
			}
		})
	}
}

// smallDirect: through Detach to smtp-sink, and straight to it.
func smallDirect(l *lab) contest {
	servers.Need(l, "smtp-source")
	sink, mail := l.sink(), l.smallMail()
	d := l.serve(sink, embedded)
	n := l.size.mails
	return contest{ours: l.manySmall(d.Proxy, mail, n), theirs: l.manySmall(sink, mail, n), detach: d}
}

// proxsmtpShare divides the number of mails for proxsmtp, which takes 20 ms for each: it writes
// line by line, and keeps some of 20 clients waiting.
const proxsmtpShare = 10

// smallProxsmtp: through Detach, and through a filter proxy in C without a filter command.
func smallProxsmtp(l *lab) contest {
	servers.Need(l, "smtp-source")
	sink, mail := l.sink(), l.smallMail()
	d := l.serve(sink, embedded)
	n := l.size.mails / proxsmtpShare
	return contest{ours: l.manySmall(d.Proxy, mail, n), theirs: l.manySmall(l.proxsmtp(sink), mail, n), detach: d}
}

// proxsmtp starts a proxsmtpd in front of a next hop. Some distributions no longer have it, so it
// may be missing in CI too.
func (l *lab) proxsmtp(next string) string {
	l.Helper()
	if servers.LookPath("proxsmtpd") == "" {
		l.Skipf("missing: proxsmtpd")
	}
	addr, dir := servers.FreeAddr(l), l.TempDir()
	config := filepath.Join(dir, "proxsmtpd.conf")
	text := fmt.Sprintf("Listen: %s\nOutAddress: %s\nTempDirectory: %s\nMaxConnections: 64\n", addr, next, dir)
	servers.Must(l, os.WriteFile(config, []byte(text), 0o644))
	l.run(addr, "proxsmtpd", "-d", "1", "-f", config)
	return addr
}
