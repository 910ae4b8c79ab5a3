package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

const (
	// serviceMemory is what docs/operations.md tells to give the service.
	serviceMemory = 256 << 20
	attackers     = 50
	slowReaders   = 600
	heads         = 100
	zipFiles      = 1000
	// slowdown is how much longer honest work may take.
	slowdown = 3
	rounds   = 9
	// longest is more than honest work takes on any machine that does not wait for slow readers.
	longest = 30 * time.Second
	// mostWritten is what a service may write to the disk for slow readers: nothing but its log.
	mostWritten = 4 << 20
)

// In a memory limit, everything that strangers can make large happens at once: fifty connections
// with mails that fill whatever is kept of a mail, six hundred slow readers, and a hundred HEADs of
// a large original and of a ZIP of a thousand files. The service survives, and honest mails and
// downloads take little longer than at a second service with the same limit that nobody attacks.
func TestEverythingAtOnceInLittleMemory(t *testing.T) {
	faults.Covers(t, 101)
	const policy = "min_size = \"1KiB\""
	d := stage.Configure(t, stage.Setup{Policy: policy})
	limited := limitMemory(t, d, serviceMemory)
	python := stage.StartDecoder(t)
	many := python.Parse(t, d.Pipe(t, "filter", manyFiles()))
	file := d.Put(t, stage.FileOf("file.bin", stage.Noise(1, 10<<20)))[0]
	calm := stage.Configure(t, stage.Setup{Policy: policy})
	limitMemory(t, calm, serviceMemory)
	calm.Start(t)
	d.Start(t)
	before, calmBefore := figuresOf(t, d), figuresOf(t, calm)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all, began sync.WaitGroup
	finish := make(chan struct{})
	began.Add(slowReaders)
	for range slowReaders {
		all.Go(func() {
			first := sync.OnceFunc(began.Done)
			defer first()
			// It ends with an error when the test is over, or when the gateway sends it away.
			_ = file.DownloadBy(ctx, slowClient(t), &hesitant{Writer: io.Discard, first: first})
		})
	}
	began.Wait()
	if written := figuresOf(t, d).written - before.written; written > mostWritten {
		t.Errorf("%d MiB were written for slow readers", written>>20)
	}
	began.Add(attackers + heads)
	for i := range attackers {
		all.Go(func() { attack(t, d, hostile[i%len(hostile)], began.Done, finish) })
	}
	asked := new(atomic.Int64)
	for _, l := range largeAnswers(t, many) {
		address, err := l.Ticket(ctx, stage.NoRedirects)
		stage.Must(t, err)
		for range heads / 2 {
			all.Go(func() { askAgain(ctx, address, asked, began.Done) })
		}
	}
	began.Wait() // so that the burst of the beginning is not measured
	mails, downloads := compare(t, d, calm)
	// Another program on this machine may delay one series of rounds. A cause in Detach would show
	// in each series.
	for range 2 {
		if mails <= slowdown && downloads <= slowdown {
			break
		}
		mails, downloads = compare(t, d, calm)
	}
	held := d.PeakMemory(t)
	close(finish) // all attackers end their mails together, which are then put together
	time.Sleep(time.Second)
	stop()
	all.Wait()
	most := d.PeakMemory(t)
	t.Logf("attacked: %v", figuresOf(t, d).since(before))
	t.Logf("calm: %v", figuresOf(t, calm).since(calmBefore))
	t.Logf("%d HEADs; honest mail took %.2f times as long, downloads %.2f; at most %d MiB while the mails waited, %d in all",
		asked.Load(), mails, downloads, held>>20, most>>20)
	if mails > slowdown || downloads > slowdown {
		t.Errorf("honest mail took %.2f times as long, and downloads %.2f: want at most %d", mails, downloads, slowdown)
	}
	if !limited && most >= serviceMemory {
		t.Errorf("serve had %d MiB, want less than %d", most>>20, serviceMemory>>20)
	}
	if log := d.Log(t); strings.Contains(log, "msg=panic") {
		t.Error("a session or a request has panicked")
	}
}

// limitMemory makes d run in a control group of its own with so much memory. It returns false where
// this process must not make one: then the test goes by the process's own figures.
func limitMemory(t *testing.T, d *stage.Detach, limit int64) bool {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		root, file := "/sys/fs/cgroup", "memory.max" // version 2
		if len(fields) == 3 && fields[1] == "memory" {
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if len(fields) < 3 || fields[1] != "" {
			continue
		}
		for parent := fields[2]; ; parent = filepath.Dir(parent) { // in a container, only the root may be there
			if group, ok := makeGroup(t, filepath.Join(root, parent), file, limit); ok {
				d.Wrap = enter(group)
				return true
			}
			if parent == "/" {
				break
			}
		}
	}
	t.Log("no control group can be made here: the limit is not enforced, and memory is measured")
	return false
}

// makeGroup makes a control group below parent, and reports whether a process can be in it and is
// limited there.
func makeGroup(t *testing.T, parent, file string, limit int64) (string, bool) {
	group, err := os.MkdirTemp(parent, fmt.Sprintf("detach-%d-", os.Getpid()))
	if err != nil {
		return "", false
	}
	t.Cleanup(func() { os.Remove(group) })
	if _, err := os.Stat(filepath.Join(group, "cgroup.procs")); err != nil {
		return "", false // parent is a plain directory: version 2 is mounted elsewhere, beside version 1
	}
	// In version 2 the parent must give its groups the memory controller first. The kernel refuses
	// that if the parent has processes: then the group has no file for the limit.
	_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0o644)
	if os.WriteFile(filepath.Join(group, file), fmt.Append(nil, limit), 0o644) != nil {
		return "", false
	}
	return group, exec.Command(enter(group)[0], append(enter(group)[1:], "true")...).Run() == nil
}

// enter is a command that runs its arguments in a control group.
func enter(group string) []string {
	return []string{"sh", "-c", "echo $$ >" + group + "/cgroup.procs && exec \"$@\"", "sh"}
}

// figures are what a service has used: they help to understand why the test failed.
type figures struct {
	cpu       time.Duration
	written   int64 // bytes to the disk
	read      int64 // bytes from the disk
	faults    int64 // pages that had to be read
	blockedIO time.Duration
}

func figuresOf(t *testing.T, d *stage.Detach) figures {
	const tick = time.Second / 100 // USER_HZ
	stat := func(field int) int64 { return d.Figure(t, "stat", fmt.Sprintf(`\) .(?: -?\d+){%d} (\d+)`, field-4)) }
	return figures{
		cpu:       time.Duration(stat(14)+stat(15)) * tick,
		written:   d.Figure(t, "io", `\bwrite_bytes: (\d+)`),
		read:      d.Figure(t, "io", `\bread_bytes: (\d+)`),
		faults:    stat(12),
		blockedIO: time.Duration(stat(42)) * tick,
	}
}

func (f figures) since(before figures) string {
	return fmt.Sprintf("%v of the processor, %d MiB written, %d MiB read, %d pages read again, %v blocked",
		f.cpu-before.cpu, (f.written-before.written)>>20, (f.read-before.read)>>20, f.faults-before.faults, f.blockedIO-before.blockedIO)
}

// hostile are the beginnings of mails that make as much state as they can: each is long, and goes
// on with a line a second.
var hostile = []func(w io.Writer) error{quotedAttachments, irregularLines, manyReferences}

const hostileHead = "MIME-Version: 1.0\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n"

// quotedAttachments has 30 attachments of 1.1 MB in quoted-printable that no encoder writes so.
func quotedAttachments(w io.Writer) error {
	body := strings.Repeat("=41b=\r\ncd e=66g\r\n", 1_100_000/16)
	for i := range 30 {
		head := hostileHead
		if i > 0 {
			head = ""
		}
		if _, err := io.WriteString(w, head+"--b\r\nContent-Type: text/csv; name=a.csv\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"+body); err != nil {
			return err
		}
	}
	return nil
}

// irregularLines has 400 attachments in base64 whose lines change their length all the time, each
// with another line end.
func irregularLines(w io.Writer) error {
	if _, err := io.WriteString(w, hostileHead); err != nil {
		return err
	}
	for i := range 400 {
		var part strings.Builder
		part.WriteString("--b\r\nContent-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		for j := range 1000 {
			part.WriteString(strings.Repeat("QUJD", 1+(i+j)%18) + strings.Repeat(" ", j%2*(i%200)) + "\r\n")
		}
		if _, err := io.WriteString(w, part.String()); err != nil {
			return err
		}
	}
	return nil
}

// manyReferences has 4 MB of references to pictures, all different, in a header and a text of which
// everything is as large as it may be.
func manyReferences(w io.Writer) error {
	_, err := io.WriteString(w, strings.Repeat("X-Filler: 0123456789\r\n", 8000)+strings.Replace(hostileHead, "mixed", "related", 1)+
		"--b\r\nContent-Type: text/html\r\n\r\n")
	for i := 0; err == nil && i < 160_000; i += 1000 {
		var text strings.Builder
		for j := range 1000 {
			fmt.Fprintf(&text, "<img src=cid:%d@x>\r\n", i+j)
		}
		_, err = io.WriteString(w, text.String())
	}
	if err == nil {
		_, err = io.WriteString(w, "\r\n--b\r\nContent-Type: image/png\r\nContent-ID: <1@x>\r\n\r\npicture\r\n")
	}
	return err
}

// attack sends the beginning of a mail, goes on as slowly as a client may, and ends the mail when
// finish is closed. Detach may refuse it, but must answer.
func attack(t *testing.T, d *stage.Detach, mail func(io.Writer) error, began func(), finish <-chan struct{}) {
	began = sync.OnceFunc(began)
	defer began()
	c, err := servers.Dial(d.Proxy, "")
	if err != nil {
		t.Errorf("attacker: %v", err)
		return
	}
	defer c.Close()
	if reply, err := c.Begin(stage.Message("")); err != nil || reply[0] != '3' {
		t.Errorf("attacker: %q, %v", reply, err)
		return
	}
	if err := mail(c); err != nil {
		t.Errorf("attacker: %v", err)
		return
	}
	began()
	for waiting := true; waiting; {
		select {
		case <-finish:
			waiting = false
		case <-time.After(time.Second):
			io.WriteString(c, "QUJD\r\n")
		}
	}
	io.WriteString(c, "\r\n--b--\r\n.\r\n")
	if reply, err := c.Reply(); err != nil || !strings.HasPrefix(reply, "250 ") && !strings.HasPrefix(reply, "451 ") {
		t.Errorf("attacker got %q, %v", reply, err)
	}
}

// manyFiles is a mail with a thousand files.
func manyFiles() io.Reader {
	parts := []io.Reader{strings.NewReader(hostileHead)}
	for i := range zipFiles {
		parts = append(parts, strings.NewReader("--b\r\n"+stage.FileOf(fmt.Sprintf("file %d.bin", i), stage.Noise(uint64(1000+i), 3<<10)).Part()))
	}
	return io.MultiReader(append(parts, strings.NewReader("--b--\r\n"))...)
}

// largeAnswers returns the links to a mail's original and to all of its files.
func largeAnswers(t *testing.T, mail stage.Parsed) []stage.Link {
	original, ok := mail.Original()
	all := slices.DeleteFunc(mail.AnyLinks(), func(l stage.Link) bool { return !l.All })
	if !ok || len(all) != 1 {
		t.Fatalf("no link to the original or to all files")
	}
	return []stage.Link{original, all[0]}
}

// askEvery is the pause between two requests of askAgain: all callers together send as many as one
// client may.
const askEvery = heads * time.Second / 20

// askAgain asks for the headers of an answer until ctx ends. It calls began after the first answer.
func askAgain(ctx context.Context, address string, asked *atomic.Int64, began func()) {
	began = sync.OnceFunc(began)
	defer began()
	for ok := true; ok; ok = stage.Sleep(ctx, askEvery) {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
		if err != nil {
			panic(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			asked.Add(1)
			began()
		}
	}
}

// compare sends honest mails to both services and downloads their attachments, in turns. It returns
// the medians of how much longer that took at the first service.
func compare(t *testing.T, attacked, calm *stage.Detach) (mails, downloads float64) {
	python := stage.StartDecoder(t)
	var mailRatios, downloadRatios []float64
	for i := range rounds {
		mailA, downloadA := honest(t, python, attacked, 2*i)
		mailB, downloadB := honest(t, python, calm, 2*i+1)
		mailRatios = append(mailRatios, mailA.Seconds()/mailB.Seconds())
		downloadRatios = append(downloadRatios, downloadA.Seconds()/downloadB.Seconds())
		t.Logf("mail %v and %v, download %v and %v", mailA, mailB, downloadA, downloadB)
		if max(mailA, downloadA) > longest {
			t.Errorf("round %d took more than %v", i, longest)
		}
	}
	slices.Sort(mailRatios)
	slices.Sort(downloadRatios)
	return mailRatios[rounds/2], downloadRatios[rounds/2]
}

// honest sends a mail of 4 MB, and downloads its attachment.
func honest(t *testing.T, python *stage.Decoder, d *stage.Detach, number int) (mail, download time.Duration) {
	m := stage.Numbered{Number: number, Pages: 72}
	began := time.Now()
	if reply := servers.Send(t, d.Proxy, "", stage.Stream(m.Reader())); !strings.HasPrefix(reply, "250 ") {
		t.Errorf("honest mail got %q", reply)
		return 1, 1
	}
	mail = time.Since(began)
	delivered := d.Box.Mails()
	l := python.Parse(t, delivered[len(delivered)-1].Data).Link(t)
	began = time.Now()
	if got := stage.FileHash(t, l); got != m.SHA256() {
		t.Errorf("honest download has SHA-256 %s, want %s", got, m.SHA256())
	}
	return mail, time.Since(began)
}
