package servers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Dovecot is a running instance with one mailbox: mail comes in by LMTP, and is read by IMAP.
type Dovecot struct {
	LMTP, IMAP string // host:port

	t   T
	dir string
	cmd *exec.Cmd
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
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Dovecot{LMTP: FreeAddr(t), IMAP: FreeAddr(t), t: t, dir: dir}
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "mail"), 0o777))
	must(t, os.Chmod(filepath.Join(dir, "mail"), 0o777))
	user, err := exec.Command("id", "-u", "mail").Output()
	must(t, err)
	group, err := exec.Command("id", "-g", "mail").Output()
	must(t, err)
	_, lmtp, _ := strings.Cut(d.LMTP, ":")
	_, imap, _ := strings.Cut(d.IMAP, ":")
	conf := strings.NewReplacer("{{dir}}", dir, "{{lmtp}}", lmtp, "{{imap}}", imap,
		"{{uid}}", strings.TrimSpace(string(user)), "{{gid}}", strings.TrimSpace(string(group))).Replace(dovecotConf)
	must(t, os.WriteFile(filepath.Join(dir, "dovecot.conf"), []byte(conf), 0o644))
	d.cmd = exec.Command(LookPath("dovecot"), "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	must(t, d.cmd.Start())
	t.Cleanup(func() {
		d.cmd.Process.Signal(syscall.SIGTERM)
		d.cmd.Wait()
		if t.Failed() {
			t.Log(d.Log())
		}
	})
	Eventually(t, Patience, "Dovecot to listen", func() bool {
		for _, addr := range []string{d.LMTP, d.IMAP} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	})
	return d
}

// Log returns what it has logged.
func (d *Dovecot) Log() string {
	text, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		d.t.Error(err)
	}
	return string(text)
}

// Files returns the mails in a user's inbox as they lie in the Maildir.
func (d *Dovecot) Files(user string) [][]byte {
	d.t.Helper()
	var mails [][]byte
	for _, sub := range []string{"new", "cur"} {
		paths, err := filepath.Glob(filepath.Join(d.dir, "mail", user, sub, "*"))
		must(d.t, err)
		for _, p := range paths {
			mail, err := os.ReadFile(p)
			must(d.t, err)
			mails = append(mails, mail)
		}
	}
	return mails
}

// Fetch returns mail number n (from 1) of a user's inbox, as BODY[] says it.
func (d *Dovecot) Fetch(user string, n int) []byte {
	d.t.Helper()
	c, err := net.Dial("tcp", d.IMAP)
	must(d.t, err)
	defer c.Close()
	must(d.t, c.SetDeadline(time.Now().Add(Patience)))
	r := bufio.NewReader(c)
	var mail []byte
	for i, command := range []string{"NOOP", fmt.Sprintf("LOGIN %s x", user), "SELECT INBOX", fmt.Sprintf("FETCH %d BODY[]", n), "LOGOUT"} {
		tag := fmt.Sprintf("a%d", i)
		fmt.Fprintf(c, "%s %s\r\n", tag, command)
		for {
			line, err := r.ReadString('\n')
			must(d.t, err)
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
				must(d.t, err)
				var literal bytes.Buffer
				_, err = io.CopyN(&literal, r, length)
				must(d.t, err)
				mail = literal.Bytes()
			}
		}
	}
	return mail
}
