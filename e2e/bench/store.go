package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// sink starts Postfix's smtp-sink, a next hop that discards all mail.
func (l *lab) sink() string {
	l.Helper()
	servers.Need(l, "smtp-sink")
	addr := servers.FreeAddr(l)
	args := []string{addr, "1000"}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...) // it refuses to be root
	}
	l.run(addr, "smtp-sink", args...)
	return addr
}

// storeKubo: a mail through Detach into the node, and the node's own command with the attachment's
// bytes, in the same blocks.
func storeKubo(l *lab) contest {
	d := l.serve(l.sink(), kubo)
	var mail, plain string
	return contest{
		prepare: func() {
			m := newLetter(l.size.big)
			mail, plain = l.mail(m), l.plain(m)
		},
		ours: func() float64 {
			all, _ := l.send(d.Proxy, mail)
			return all
		},
		theirs: func() float64 {
			return seconds(func() {
				l.node.Run("add", "--quieter", "--cid-version=1", "--raw-leaves", "--chunker=size-1048576", plain)
			})
		},
		detach: d,
	}
}

// pipeline processes an attachment as Detach does, with standard tools: decode, encrypt, hash, and
// write to the disk. Its input lacks the rest of the mail, and the CRs at the line ends, for which
// base64 needs a slower mode. It does not wait for the hash.
const pipeline = `set -o pipefail
base64 -d "$1" | openssl enc -aes-256-ctr -K "$3" -iv 0 | tee >(sha256sum >"$2.sum") | dd bs=1M iflag=fullblock conv=fsync of="$2" status=none`

// storeEmbedded: a mail through Detach into files in the data directory, and the pipeline into a
// file beside it.
func storeEmbedded(l *lab) contest {
	servers.Need(l, "bash", "base64", "openssl", "tee", "sha256sum", "dd")
	d := l.serve(l.sink(), embedded)
	out := filepath.Join(l.TempDir(), "out")
	var mail, lines string
	return contest{
		prepare: func() {
			m := newLetter(l.size.big)
			mail, lines = l.mail(m), l.lines(m)
			l.forget(d)
			os.Remove(out)
		},
		ours: func() float64 {
			all, _ := l.send(d.Proxy, mail)
			return all
		},
		theirs: func() float64 { return seconds(func() { l.shell(pipeline, lines, out, strings.Repeat("5a", 32)) }) },
		detach: d,
	}
}

// forget removes what Detach has stored in files, so that the disk does not fill.
func (l *lab) forget(d *stage.Detach) {
	l.Helper()
	stored, err := filepath.Glob(filepath.Join(d.DataDir, "objects", "*.car"))
	stage.Must(l, err)
	for _, name := range stored {
		stage.Must(l, os.Remove(name))
	}
}

// shell runs a script of bash.
func (l *lab) shell(script string, args ...string) {
	l.Helper()
	out, err := exec.Command("bash", append([]string{"-c", script, "bash"}, args...)...).CombinedOutput()
	if err != nil {
		l.Fatalf("bash: %v\n%s", err, out)
	}
}

// replyTime: how long the client waits after its last byte, in ms.
func replyTime(store string, size int64) func(*lab) contest {
	return func(l *lab) contest {
		d := l.serve(l.sink(), store)
		var mail string
		return contest{
			prepare: func() { mail = l.mail(newLetter(size)) },
			ours: func() float64 {
				_, waited := l.send(d.Proxy, mail)
				return 1000 * waited
			},
			detach: d,
		}
	}
}

// plainly has a listener without a filter, beside the one with Detach and the one behind Detach.
const plainly = `
{{front}} inet n - n - - smtpd
  -o smtpd_proxy_filter={{filter}}
%s inet n - n - - smtpd
{{after}} inet n - n - - smtpd
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
`

// throughPostfix: a mail to the Postfix before Detach, and to the same Postfix's listener without a
// filter. The clock stops at the reply. The next mail waits for the delivery.
func throughPostfix(l *lab) contest {
	filter, after, direct := servers.FreeAddr(l), servers.FreeAddr(l), servers.FreeAddr(l)
	p := stage.StartPostfix(l, servers.PostfixConfig{
		Filter: filter, After: after, Destination: l.sink(),
		Main: "message_size_limit = 0\nmailbox_size_limit = 0\n", Master: fmt.Sprintf(plainly, direct),
	})
	d := l.configure(filter, after, embedded)
	l.start(d)
	var mail string
	through := func(addr string) func() float64 {
		return func() float64 {
			all, _ := l.send(addr, mail)
			p.WaitEmpty(servers.Patience)
			return all
		}
	}
	return contest{
		prepare: func() { mail = l.mail(newLetter(l.size.medium)) },
		ours:    through(p.Front),
		theirs:  through(direct),
		detach:  d,
	}
}
