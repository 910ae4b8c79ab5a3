package servers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PostfixConfig configures a private Postfix.
type PostfixConfig struct {
	// Filter is the host:port that the front listener gives its mail to.
	Filter string
	// After is the host:port of the after-filter listener; empty for a free port.
	After string
	// Destination is the host:port of the SMTP server which accepted mail is delivered to.
	Destination string
	// Domain is what this Postfix is responsible for, Users the only recipients it knows there.
	Domain string
	Users  []string
	// ForbidBareNewline is main.cf's smtpd_forbid_bare_newline: "no" or "normalize".
	ForbidBareNewline string
	// Main is appended to main.cf.
	Main string
	// Master replaces the three listeners; the tests of docs/postfix.md have their own. Its services
	// win over those that every Postfix here has.
	Master string
}

// Postfix is a running instance with its own configuration, queue and log.
type Postfix struct {
	// Front is the listener with smtpd_proxy_filter, After the one behind the filter. Control is a
	// front whose "filter" is After itself: its mails show what two Postfixes alone change.
	Front, After, Control string

	t       T
	dir     string
	running bool
}

// The after-filter listener refuses unknown recipients and the front one does not, so a refusal
// that the sender sees has come through the filter.
const listeners = `
{{front}} inet n - n - - smtpd
  -o syslog_name=postfix/front
  -o smtpd_proxy_filter={{filter}}
  -o smtpd_reject_unlisted_recipient=no
  -o message_size_limit=4294967296
{{control}} inet n - n - - smtpd
  -o syslog_name=postfix/control
  -o smtpd_proxy_filter={{after}}
  -o smtpd_reject_unlisted_recipient=no
{{after}} inet n - n - - smtpd
  -o syslog_name=postfix/after
  -o smtpd_proxy_filter=
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
  -o smtpd_reject_unlisted_recipient=yes
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o message_size_limit=26214400
`

const services = `
pickup    unix  n - n 60  1 pickup
cleanup   unix  n - n -   0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n -   - trivial-rewrite
bounce    unix  - - n -   0 bounce
defer     unix  - - n -   0 bounce
trace     unix  - - n -   0 bounce
verify    unix  - - n -   1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -   - proxymap
smtp      unix  - - n -   - smtp
showq     unix  n - n -   - showq
error     unix  - - n -   - error
retry     unix  - - n -   - error
lmtp      unix  - - n -   - lmtp
discard   unix  - - n -   - discard
anvil     unix  - - n -   1 anvil
postlog   unix-dgram n - n - 1 postlogd
`

const mainCf = `
compatibility_level = 3.6
queue_directory = {{dir}}/queue
data_directory = {{dir}}/data
maillog_file = {{dir}}/log/maillog
maillog_file_prefixes = {{dir}}/log
myhostname = mx.detach.example
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
local_header_rewrite_clients =
smtpd_forbid_bare_newline = {{bare}}
smtpd_forbid_bare_newline_exclusions =
relay_domains = {{domain}}
relay_recipient_maps = inline:{ {{users}} }
relay_transport = smtp:[{{desthost}}]:{{destport}}
smtp_line_length_limit = 0
disable_mime_output_conversion = yes
smtp_send_xforward_command = no
in_flow_delay = 0
cleanup_replace_stray_cr_lf = no
queue_run_delay = 5s
enable_long_queue_ids = yes
smtp_tls_security_level = none
smtpd_tls_security_level = none
`

// StartPostfix starts an instance and stops it when the test ends. It needs root, as master(8)
// does.
func StartPostfix(t T, cfg PostfixConfig) *Postfix {
	t.Helper()
	Need(t, "postfix", "postqueue")
	if os.Geteuid() != 0 {
		Missing(t, "root, which Postfix's master needs")
	}
	// Not t.TempDir(): its folders are closed to the user postfix, and its long names do not fit
	// into the 108 bytes of a unix socket's address.
	dir, err := os.MkdirTemp("", "pf")
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Postfix{Front: FreeAddr(t), Control: FreeAddr(t), After: cfg.After, t: t, dir: dir}
	if p.After == "" {
		p.After = FreeAddr(t)
	}
	p.configure(cfg)
	p.run("check")
	t.Cleanup(p.end)
	p.Start()
	return p
}

func (p *Postfix) configure(cfg PostfixConfig) {
	p.t.Helper()
	var users strings.Builder
	for _, u := range cfg.Users {
		fmt.Fprintf(&users, "%s@%s=x ", u, cfg.Domain)
	}
	bare := cfg.ForbidBareNewline
	if bare == "" {
		bare = "normalize"
	}
	desthost, destport, _ := strings.Cut(cfg.Destination, ":")
	master := cfg.Master
	if master == "" {
		master = listeners
	}
	fill := strings.NewReplacer("{{dir}}", p.dir, "{{bare}}", bare, "{{domain}}", cfg.Domain, "{{users}}", users.String(),
		"{{desthost}}", desthost, "{{destport}}", destport,
		"{{front}}", p.Front, "{{after}}", p.After, "{{control}}", p.Control, "{{filter}}", cfg.Filter)

	Must(p.t, os.Chmod(p.dir, 0o755))
	for _, sub := range []string{"etc", "queue", "log"} {
		Must(p.t, os.Mkdir(filepath.Join(p.dir, sub), 0o755))
	}
	// A log that postlogd makes belongs to root, and some programs of Postfix that write to it do
	// not run as root.
	postfix, err := user.Lookup("postfix")
	Must(p.t, err)
	uid, err := strconv.Atoi(postfix.Uid)
	Must(p.t, err)
	Must(p.t, os.WriteFile(p.LogFile(), nil, 0o644))
	Must(p.t, os.Chown(p.LogFile(), uid, -1))
	Must(p.t, os.WriteFile(filepath.Join(p.dir, "etc/main.cf"), []byte(fill.Replace(mainCf)+cfg.Main), 0o644))
	Must(p.t, os.WriteFile(filepath.Join(p.dir, "etc/master.cf"), []byte(fill.Replace(services+master)), 0o644))
}

// Start starts the daemons again. On a busy machine master(8) may take longer than the 10 s after
// which `postfix start` gives up; it starts nevertheless.
func (p *Postfix) Start() {
	p.t.Helper()
	p.running = true // also if it starts only in part
	out, err := p.control("start")
	if err == nil {
		return
	}
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Second) {
		if _, err := p.control("status"); err == nil {
			return
		}
	}
	p.t.Fatalf("postfix start: %v\n%s\n%s", err, out, p.Log())
}

// run gives Postfix's own control program a command.
func (p *Postfix) run(command string) {
	p.t.Helper()
	if out, err := p.control(command); err != nil {
		p.t.Fatalf("postfix %s: %v\n%s\n%s", command, err, out, p.Log())
	}
}

func (p *Postfix) control(command string) ([]byte, error) {
	cmd := exec.Command(LookPath("postfix"), "-c", filepath.Join(p.dir, "etc"), command)
	cmd.Env = append(os.Environ(), "PATH="+systemPath)
	// CombinedOutput would wait for the daemon, which keeps the pipe open; a file is not waited
	// for.
	out, err := os.CreateTemp(p.dir, "out")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	runErr := cmd.Run()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		return nil, err
	}
	return text, runErr
}

// Submit hands a mail to sendmail(1), as programs on the mail server do.
func (p *Postfix) Submit(m Message) {
	p.t.Helper()
	cmd := exec.Command(LookPath("sendmail"), "-C", filepath.Join(p.dir, "etc"), "-f", m.From, m.To)
	cmd.Stdin = m.Data
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("sendmail: %v\n%s", err, out)
	}
}

// Stop ends Postfix as an administrator does. Accepted mail stays in the queue until Start.
func (p *Postfix) Stop() {
	p.t.Helper()
	p.run("stop")
	p.running = false
}

// Kill ends all processes of Postfix as a crash does. Start starts them again.
func (p *Postfix) Kill() {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "queue/pid/master.pid"))
	Must(p.t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 2 {
		p.t.Fatalf("the pid of Postfix's master is %q", text)
	}
	// The master leads a process group of its own, and all of its children are in it.
	Must(p.t, syscall.Kill(-pid, syscall.SIGKILL))
	Eventually(p.t, Patience, "the killed Postfix to be gone", func() bool {
		_, err := p.control("status")
		return err != nil
	})
	p.running = false
}

func (p *Postfix) end() {
	if !p.running {
		return
	}
	if out, err := p.control("stop"); err != nil {
		p.t.Errorf("postfix stop: %v\n%s", err, out)
	}
}

// Log returns the log of all daemons.
func (p *Postfix) Log() string {
	text, err := os.ReadFile(p.LogFile())
	if err != nil && !os.IsNotExist(err) {
		p.t.Errorf("Postfix's log: %v", err)
	}
	return string(text)
}

// ConfigDir returns the folder of main.cf and master.cf.
func (p *Postfix) ConfigDir() string { return filepath.Join(p.dir, "etc") }

// LogFile returns the path of the log.
func (p *Postfix) LogFile() string { return filepath.Join(p.dir, "log/maillog") }

// WaitLog waits until a line of the log matches, and returns the line.
func (p *Postfix) WaitLog(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile("(?m)^.*(?:" + pattern + ").*$")
	var line string
	Eventually(p.t, Patience, "a log line "+pattern, func() bool { line = re.FindString(p.Log()); return line != "" })
	return line
}

// ClientLine returns the line in which the smtpd behind the filter names the client of the mail
// queued under id: "client=FILTER, orig_client=CLIENT" if XFORWARD told it the original client.
func (p *Postfix) ClientLine(id string) string {
	p.t.Helper()
	return p.WaitLog(`postfix/after/smtpd\[\d+\]: ` + id + `: client=`)
}

// Waiting counts the mails that are accepted but not delivered. A half received mail does not
// count.
func (p *Postfix) Waiting() int {
	p.t.Helper()
	waiting := 0
	for _, file := range p.Queue() {
		// A queue file that is complete is executable (MAIL_QUEUE_STAT_READY).
		if info, err := os.Stat(filepath.Join(p.dir, "queue", file)); err == nil && info.Mode()&0o100 != 0 {
			waiting++
		}
	}
	return waiting
}

// Queue lists the files of every queue: mails that are accepted but not delivered or half received.
func (p *Postfix) Queue() []string {
	p.t.Helper()
	var files []string
	root := filepath.Join(p.dir, "queue")
	for _, queue := range []string{"incoming", "active", "deferred", "hold", "maildrop", "corrupt"} {
		err := filepath.WalkDir(filepath.Join(root, queue), func(path string, d os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil // delivered while we were looking
			}
			if err == nil && d.Type().IsRegular() {
				files = append(files, strings.TrimPrefix(path, root+"/"))
			}
			return err
		})
		Must(p.t, err)
	}
	return files
}

// WaitEmpty waits until everything accepted is delivered.
func (p *Postfix) WaitEmpty(within time.Duration) {
	p.t.Helper()
	Eventually(p.t, within, "an empty queue", func() bool { return len(p.Queue()) == 0 })
}

var queued = regexp.MustCompile(`queued as ([0-9A-Za-z]+)`)

// QueueID returns the id in the reply of a Postfix that has accepted a mail, or "".
func QueueID(reply string) string {
	if m := queued.FindStringSubmatch(reply); m != nil {
		return m[1]
	}
	return ""
}

// StripTrace cuts off the trace fields that the Postfixes put on top of a mail. It returns an error
// if there are fewer than want Received fields.
func StripTrace(mail []byte, want int) ([]byte, error) {
	received := 0
	for received < want {
		if bytes.HasPrefix(mail, []byte("Received:")) {
			received++
		} else if !bytes.HasPrefix(mail, []byte("Return-Path:")) {
			return nil, fmt.Errorf("%d Received fields on top, want %d", received, want)
		}
		mail = afterField(mail)
	}
	return mail, nil
}

// afterField returns the mail behind its first header field and that field's folded lines.
func afterField(mail []byte) []byte {
	for {
		_, rest, _ := bytes.Cut(mail, []byte("\r\n"))
		if len(rest) == 0 || (rest[0] != ' ' && rest[0] != '\t') {
			return rest
		}
		mail = rest
	}
}
