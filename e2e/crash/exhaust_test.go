package crash

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
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// twoMiBText has nothing to detach, but only its end shows that. Until then a temporary file has
// it.
var twoMiBText = stage.Head("a long story") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" +
	strings.Repeat(strings.Repeat("word ", 15)+"\r\n", 2<<20/77) + "--b--\r\n"

// wantStored checks how many objects the store has, and that no mail left anything else.
func wantStored(t *testing.T, d *stage.Detach, objects int) {
	t.Helper()
	if got := d.Objects(t); len(got) != objects {
		t.Errorf("%d files in objects/, want %d: %q", len(got), objects, got)
	}
	for _, dir := range []string{filepath.Join(d.DataDir, "pending"), filepath.Join(d.DataDir, "tmp"), d.Tmp} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", filepath.Base(dir), left, err)
		}
	}
}

// Without file descriptors new clients wait or get 421. Connected clients are served unless their
// mail needs a descriptor, and Detach waits idly for descriptors instead of spinning. When there
// are some, all clients are served again.
func TestNoDescriptors(t *testing.T) {
	faults.Covers(t, 100)
	d := stage.Configure(t, stage.Setup{})
	d.Wrap = []string{"sh", "-c", `ulimit -n 64; exec "$@"`, "sh"}
	d.Start(t)
	early := servers.Connect(t, d.Proxy)
	crowd := takeDescriptors(t, d, 64)
	for i := range 20 { // and these wait to be accepted
		c, err := net.Dial("tcp", []string{d.Proxy, strings.TrimPrefix(d.URL, "http://")}[i%2])
		stage.Must(t, err)
		defer c.Close()
		crowd = append(crowd, c)
	}
	servers.Eventually(t, servers.Patience, "both to fail to accept", func() bool {
		log := d.Log(t)
		return strings.Contains(log, "msg=\"accept failed, trying again\"") && strings.Contains(log, "http: Accept error: ")
	})
	before := cpu(t, d)
	for _, mail := range []struct{ want, text string }{{"250", stage.Untouchable["plain text"]}, {"451", stage.TextAndPDF}, {"250", stage.Untouchable["signed"]}} {
		if reply, err := early.Send(stage.Message(mail.text)); err != nil || !strings.HasPrefix(reply, mail.want+" ") {
			t.Errorf("a client from before got %q, %v, want %s", reply, err, mail.want)
		}
	}
	time.Sleep(2 * time.Second) // a loop that spins uses all of it
	if used := cpu(t, d) - before; used > 500*time.Millisecond {
		t.Errorf("without descriptors it worked for %v", used)
	}
	wantStored(t, d, 0)
	for _, c := range crowd {
		c.Close()
	}
	servers.Eventually(t, servers.Patience, "descriptors for another client", d.TakesMail)
	d.Box.Want(t, 3)
}

// takeDescriptors takes all of detach's descriptors by connections to the gateway. After an answer
// a connection may stay open for two minutes.
func takeDescriptors(t *testing.T, d *stage.Detach, limit int) (crowd []net.Conn) {
	t.Helper()
	files := filepath.Join("/proc", strconv.Itoa(d.Pid()), "fd")
	for {
		open, err := os.ReadDir(files)
		if err != nil {
			t.Skip("no /proc here to count a process's files")
		}
		if len(open) >= limit {
			return crowd
		}
		c, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
		stage.Must(t, err)
		t.Cleanup(func() { c.Close() })
		stage.Must(t, c.SetDeadline(time.Now().Add(servers.Patience)))
		_, err = io.WriteString(c, "GET /robots.txt HTTP/1.1\r\nHost: gateway\r\n\r\n")
		stage.Must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		stage.Must(t, err)
		resp.Body.Close()
		crowd = append(crowd, c)
	}
}

// cpu returns the processor time that the process has used.
func cpu(t *testing.T, d *stage.Detach) time.Duration {
	t.Helper()
	_, rest, _ := strings.Cut(stage.ReadFile(t, fmt.Sprintf("/proc/%d/stat", d.Pid())), ") ") // the name before may have blanks
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		stage.Must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// A mail whose attachment does not fit on the disk stays with its sender, and leaves nothing. A
// mail that needs no disk passes. When the disk has space again, the same process accepts the same
// mail.
func TestDiskFull(t *testing.T) {
	faults.Covers(t, 98)
	if !mayMount(t) {
		return
	}
	disk := mountDisk(t, t.TempDir(), "8m")
	d := stage.Configure(t, stage.Setup{DataDir: filepath.Join(disk, "data"), Policy: "restore = false"})
	d.Start(t)

	large := strings.Replace(stage.TextAndPDF, stage.Base64Lines(stage.Report.Content), stage.Base64Lines(stage.Noise(61, 12<<20)), 1)
	stage.Gets(t, d.Proxy, "451", large)
	wantStored(t, d, 0)
	stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)
	wantStored(t, d, 1)

	fill(t, disk)
	stage.Gets(t, d.Proxy, "451", stage.TextAndPDF)
	stage.Gets(t, d.Proxy, "451", twoMiBText)
	stage.Gets(t, d.Proxy, "250", stage.Untouchable["plain text"])
	wantStored(t, d, 1)

	stage.Must(t, os.Remove(filepath.Join(disk, "filler")))
	stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)
	stage.Gets(t, d.Proxy, "250", twoMiBText)
	wantStored(t, d, 2)
	d.Box.Want(t, 4)
}

// A directory may become read-only, because its file system found an error or its permissions
// changed. A mail that needs the directory stays with its sender until the directory can be written
// again.
func TestReadOnly(t *testing.T) {
	faults.Covers(t, 98)
	if !mayMount(t) {
		return
	}
	for _, which := range []string{"", "objects", "ledger", "keys", "pending"} {
		t.Run("data_dir "+which, func(t *testing.T) {
			d := stage.Configure(t, stage.Setup{Policy: "restore = false"})
			stage.Must(t, os.MkdirAll(filepath.Join(d.DataDir, which), 0o700))
			disk := mountDisk(t, filepath.Join(d.DataDir, which), "8m")
			d.Start(t)
			stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)

			// As in a new epoch, which has neither a secret nor a ledger yet.
			for _, dir := range []string{"keys", "ledger"} {
				files, err := filepath.Glob(filepath.Join(d.DataDir, dir, "*"))
				stage.Must(t, err)
				for _, file := range files {
					stage.Must(t, os.Remove(file))
				}
			}
			remount(t, disk, "ro")
			stage.Gets(t, d.Proxy, "451", stage.TextAndPDF)
			stage.Gets(t, d.Proxy, "250", stage.Untouchable["plain text"])
			wantStored(t, d, 1)
			remount(t, disk, "rw")
			stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)
			wantStored(t, d, 2)
			d.Box.Want(t, 3)
		})
	}
}

// mountDisk mounts a small file system in memory on a directory, and returns the directory.
func mountDisk(t *testing.T, dir, size string) string {
	t.Helper()
	stage.Must(t, run1("mount", "-t", "tmpfs", "-o", "mode=0755,size="+size, "tmpfs", dir))
	t.Cleanup(func() {
		// The last processes of a Postfix end a moment after its master.
		servers.Eventually(t, servers.Patience, "nobody to use the disk", func() bool { return run1("umount", dir) == nil })
	})
	return dir
}

func remount(t *testing.T, disk, options string) {
	t.Helper()
	stage.Must(t, run1("mount", "-o", "remount,bind,"+options, disk))
}

// fill takes all the space of a disk.
func fill(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	stage.Must(t, err)
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

func run1(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

const inNamespace = "DETACH_TEST_NAMESPACE"

// mayMount reports whether this process may mount a file system. If not, mayMount runs the test
// once more in a user and mount namespace of its own, takes over its outcome, and returns false.
func mayMount(t *testing.T) bool {
	t.Helper()
	dir := t.TempDir()
	if err := run1("mount", "-t", "tmpfs", "tmpfs", dir); err == nil {
		stage.Must(t, run1("umount", dir))
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
