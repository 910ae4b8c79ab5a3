package servers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// Dovecot is a running instance with one mailbox, which is filled by LMTP and read by IMAP.
type Dovecot struct {
	LMTP, IMAP string // host:port

	t   T
	dir string
}

const dovecotConf = `
base_dir = {{dir}}/run
state_dir = {{dir}}/run
log_path = {{dir}}/log
protocols = imap lmtp
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{{dir}}/mail/%n
mail_uid = {{uid}}
mail_gid = {{gid}}
first_valid_uid = 0
first_valid_gid = 0
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid={{uid}} gid={{gid}} home={{dir}}/mail/%n allow_all_users=yes
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = {{lmtp}}
  }
}
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = {{imap}}
  }
  inet_listener imaps {
    port = 0
  }
}
protocol lmtp {
  postmaster_address = postmaster@detach.example
}
`

// StartDovecot starts an instance and stops it when the test ends. It needs root, as Postfix does.
func StartDovecot(t T) *Dovecot {
	t.Helper()
	Need(t, "dovecot")
	if os.Geteuid() != 0 {
		Missing(t, "root, which Dovecot needs to change users")
	}
	// Not t.TempDir(): see StartPostfix.
	dir, err := os.MkdirTemp("", "dc")
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Dovecot{LMTP: FreeAddr(t), IMAP: FreeAddr(t), t: t, dir: dir}
	Must(t, os.Chmod(dir, 0o755))
	Must(t, os.Mkdir(filepath.Join(dir, "mail"), 0o777))
	Must(t, os.Chmod(filepath.Join(dir, "mail"), 0o777))
	owner, err := user.Lookup("mail")
	Must(t, err)
	_, lmtp, _ := strings.Cut(d.LMTP, ":")
	_, imap, _ := strings.Cut(d.IMAP, ":")
	conf := strings.NewReplacer("{{dir}}", dir, "{{lmtp}}", lmtp, "{{imap}}", imap,
		"{{uid}}", owner.Uid, "{{gid}}", owner.Gid).Replace(dovecotConf)
	Must(t, os.WriteFile(filepath.Join(dir, "dovecot.conf"), []byte(conf), 0o644))
	cmd := exec.Command(LookPath("dovecot"), "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	Run(t, cmd, filepath.Join(dir, "log"), d.LMTP).Await(t, d.IMAP)
	return d
}

// Files returns the mails in a user's inbox as the Maildir has them.
func (d *Dovecot) Files(user string) [][]byte {
	d.t.Helper()
	var mails [][]byte
	for _, sub := range []string{"new", "cur"} {
		paths, err := filepath.Glob(filepath.Join(d.dir, "mail", user, sub, "*"))
		Must(d.t, err)
		for _, p := range paths {
			mail, err := os.ReadFile(p)
			Must(d.t, err)
			mails = append(mails, mail)
		}
	}
	return mails
}

// Fetch returns mail number n (from 1) of a user's inbox, as IMAP's BODY[].
func (d *Dovecot) Fetch(user string, n int) []byte {
	d.t.Helper()
	c, err := net.Dial("tcp", d.IMAP)
	Must(d.t, err)
	defer c.Close()
	Must(d.t, c.SetDeadline(time.Now().Add(Patience)))
	r := bufio.NewReader(c)
	var mail []byte
	for i, command := range []string{"NOOP", fmt.Sprintf("LOGIN %s x", user), "SELECT INBOX", fmt.Sprintf("FETCH %d BODY[]", n), "LOGOUT"} {
		tag := fmt.Sprintf("a%d", i)
		fmt.Fprintf(c, "%s %s\r\n", tag, command)
		for {
			line, err := r.ReadString('\n')
			Must(d.t, err)
			if strings.HasPrefix(line, tag+" ") {
				if !strings.HasPrefix(line, tag+" OK") {
					d.t.Fatalf("IMAP %s: %s", command, line)
				}
				break
			}
			// RFC 9051 section 4.3: a literal is {length} CRLF and as many bytes.
			if at := strings.LastIndex(line, "BODY[] {"); at >= 0 {
				var length int64
				_, err := fmt.Sscanf(line[at:], "BODY[] {%d}", &length)
				Must(d.t, err)
				var literal bytes.Buffer
				_, err = io.CopyN(&literal, r, length)
				Must(d.t, err)
				mail = literal.Bytes()
			}
		}
	}
	return mail
}
