package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// twoMiBText has nothing to detach, but that shows only at its end: until then it lies in a temporary file.
var twoMiBText = head("a long story") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" +
	strings.Repeat(strings.Repeat("word ", 15)+"\r\n", 2<<20/77) + "--b--\r\n"

// gets sends a mail and wants a reply to it.
func (d *detach) gets(t *testing.T, want, mail string) {
	t.Helper()
	if reply := servers.Send(t, d.proxy, "", message([]byte(mail))); !strings.HasPrefix(reply, want+" ") {
		t.Errorf("a mail of %d bytes got %q, want %s", len(mail), reply, want)
	}
}

// wantStored wants so many objects, and nothing else that a mail may have left.
func (d *detach) wantStored(t *testing.T, objects int) {
	t.Helper()
	if got := d.objects(t); len(got) != objects {
		t.Errorf("%d files in objects/, want %d: %q", len(got), objects, got)
	}
	for _, dir := range []string{filepath.Join(d.dataDir, "pending"), d.tmp} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", filepath.Base(dir), left, err)
		}
	}
}

// With no file descriptor left, new clients wait or are told 421, those that are there are served as far as it goes, nothing
// spins, and when descriptors come back so does everything else.
func TestNoDescriptors(t *testing.T) {
	faults.Covers(t, 100)
	box := servers.NewMailbox(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr})
	d.wrap = []string{"sh", "-c", `ulimit -n 64; exec "$@"`, "sh"}
	d.start(t)
	early, err := servers.Dial(d.proxy, "")
	must(t, err)
	defer early.Close()

	crowd := d.takeDescriptors(t, 64)
	for i := range 20 { // and these wait to be accepted
		c, err := net.Dial("tcp", []string{d.proxy, strings.TrimPrefix(d.url, "http://")}[i%2])
		must(t, err)
		defer c.Close()
		crowd = append(crowd, c)
	}
	servers.Eventually(t, servers.Patience, "both to fail to accept", func() bool {
		log := d.log(t)
		return strings.Contains(log, "msg=\"accept failed, trying again\"") && strings.Contains(log, "http: Accept error: ")
	})
	before := d.cpu(t)
	for _, mail := range []struct{ want, text string }{{"250", untouchable["plain text"]}, {"451", textAndPDF}, {"250", untouchable["signed"]}} {
		if reply, err := early.Send(message([]byte(mail.text))); err != nil || !strings.HasPrefix(reply, mail.want+" ") {
			t.Errorf("a client from before got %q, %v, want %s", reply, err, mail.want)
		}
	}
	time.Sleep(2 * time.Second) // what would spin does
	if used := d.cpu(t) - before; used > 500*time.Millisecond {
		t.Errorf("without descriptors it worked for %v", used)
	}
	d.wantStored(t, 0)
	for _, c := range crowd {
		c.Close()
	}
	servers.Eventually(t, servers.Patience, "descriptors for another client", d.takesMail)
	if got := len(box.Mails()); got != 3 {
		t.Errorf("%d mails were delivered, want 3", got)
	}
}

// takeDescriptors takes all that it has: with connections to the gateway that had an answer, and so may stay for two minutes.
func (d *detach) takeDescriptors(t *testing.T, limit int) (crowd []net.Conn) {
	t.Helper()
	files := filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), "fd")
	for {
		open, err := os.ReadDir(files)
		if err != nil {
			t.Skip("no /proc here to count a process's files")
		}
		if len(open) >= limit {
			return crowd
		}
		c, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		must(t, c.SetDeadline(time.Now().Add(servers.Patience)))
		_, err = io.WriteString(c, "GET /robots.txt HTTP/1.1\r\nHost: gateway\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		resp.Body.Close()
		crowd = append(crowd, c)
	}
}

// cpu is how long the process has worked.
func (d *detach) cpu(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(stat), ") ") // the name before may have blanks
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// A mail whose attachment does not fit on the disk stays with its sender, and nothing of it is left. One that needs no disk passes.
// When there is room again, the same mail is taken by the same process.
func TestDiskFull(t *testing.T) {
	faults.Covers(t, 98)
	if !mayMount(t) {
		return
	}
	disk := newDisk(t, "8m")
	box := servers.NewMailbox(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, dataDir: filepath.Join(disk.dir, "data"), policy: "restore = false"})
	d.tmp = filepath.Join(disk.dir, "tmp")
	must(t, os.Mkdir(d.tmp, 0o700))
	d.env = []string{"TMPDIR=" + d.tmp}
	d.start(t)

	large := strings.Replace(textAndPDF, base64Lines(report.content), base64Lines(noise(61, 12<<20)), 1)
	d.gets(t, "451", large)
	d.wantStored(t, 0)
	d.gets(t, "250", textAndPDF)
	d.wantStored(t, 1)

	disk.fill(t)
	d.gets(t, "451", textAndPDF)
	d.gets(t, "451", twoMiBText)
	d.gets(t, "250", untouchable["plain text"])
	d.wantStored(t, 1)

	disk.free(t)
	d.gets(t, "250", textAndPDF)
	d.gets(t, "250", twoMiBText)
	d.wantStored(t, 2)
	if got := len(box.Mails()); got != 4 {
		t.Errorf("%d mails were delivered, want 4", got)
	}
}

// Each of the directories may become read-only, by a file system that found an error, or for want of permission. A mail that needs
// it stays with its sender until it can be written again.
func TestReadOnly(t *testing.T) {
	faults.Covers(t, 98)
	if !mayMount(t) {
		return
	}
	for _, which := range []string{"", "objects", "ledger", "keys", "pending"} {
		t.Run("data_dir "+which, func(t *testing.T) {
			box := servers.NewMailbox(t)
			d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, policy: "restore = false"})
			must(t, os.MkdirAll(filepath.Join(d.dataDir, which), 0o700))
			disk := mountDisk(t, filepath.Join(d.dataDir, which), "8m")
			d.start(t)
			d.gets(t, "250", textAndPDF)

			// The change of an epoch is a secret that is not there yet.
			keys, err := filepath.Glob(filepath.Join(d.dataDir, "keys", "*"))
			must(t, err)
			for _, key := range keys {
				must(t, os.Remove(key))
			}
			disk.remount(t, "ro")
			d.gets(t, "451", textAndPDF)
			d.gets(t, "250", untouchable["plain text"])
			d.wantStored(t, 1)
			disk.remount(t, "rw")
			d.gets(t, "250", textAndPDF)
			d.wantStored(t, 2)
			if got := len(box.Mails()); got != 3 {
				t.Errorf("%d mails were delivered, want 3", got)
			}
		})
	}
}

// disk is a small file system in memory.
type disk struct{ dir string }

func newDisk(t *testing.T, size string) disk {
	t.Helper()
	return mountDisk(t, t.TempDir(), size)
}

func mountDisk(t *testing.T, dir, size string) disk {
	t.Helper()
	must(t, run1("mount", "-t", "tmpfs", "-o", "mode=0700,size="+size, "tmpfs", dir))
	t.Cleanup(func() {
		if err := run1("umount", dir); err != nil {
			t.Error(err)
		}
	})
	return disk{dir}
}

func (d disk) remount(t *testing.T, options string) {
	t.Helper()
	must(t, run1("mount", "-o", "remount,bind,"+options, d.dir))
}

// fill takes all the room there is.
func (d disk) fill(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	must(t, err)
	defer f.Close()
	for _, step := range []int{64 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, step))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
}

func (d disk) free(t *testing.T) {
	t.Helper()
	must(t, os.Remove(filepath.Join(d.dir, "filler")))
}

func run1(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

const inNamespace = "DETACH_TEST_NAMESPACE"

// mayMount tells whether a file system can be mounted here. Who is not root, or not root enough, gets a user and mount namespace of
// their own: the test is run there once more, and has its outcome by then.
func mayMount(t *testing.T) bool {
	t.Helper()
	dir := t.TempDir()
	if err := run1("mount", "-t", "tmpfs", "tmpfs", dir); err == nil {
		must(t, run1("umount", dir))
		return true
	} else if os.Getenv(inNamespace) != "" {
		t.Fatal(err)
	}
	if err := run1("unshare", "-Urm", "true"); err != nil {
		servers.Missing(t, "the right to mount a file system: "+err.Error())
	}
	again := exec.Command("unshare", "-Urm", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inNamespace+"=1")
	out, err := again.CombinedOutput()
	t.Logf("in a namespace of its own:\n%s", out)
	if err != nil {
		t.Fail()
	}
	return false
}
