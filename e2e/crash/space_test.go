package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

const (
	diskSize = 64 << 20
	minFree  = 16 << 20
	// slop is what may be written below the minimum: ledger, records and the ends of objects.
	slop = 1 << 20
)

func freeBytes(t *testing.T, disk string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	stage.Must(t, syscall.Statfs(disk, &s))
	return int64(s.Bavail) * s.Bsize
}

// sized is a mail with an attachment of n MiB.
func sized(number, n int) servers.Message {
	return stage.Stream(stage.Numbered{Number: number, Pages: n * (1 << 20) / len(stage.Page)}.Reader())
}

// onSmallDisk returns a detach on a disk of 64 MiB, of which 16 MiB must stay free.
func onSmallDisk(t *testing.T, setup stage.Setup) (disk string, d *stage.Detach) {
	t.Helper()
	// Not t.TempDir(), which is closed to the user postfix.
	dir, err := os.MkdirTemp("", "disk")
	stage.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	stage.Must(t, os.Chmod(dir, 0o755))
	disk = mountDisk(t, dir, fmt.Sprint(diskSize))
	setup.DataDir = filepath.Join(disk, "data")
	setup.Policy = "restore = false\nmax_size = \"4GiB\""
	d = stage.Configure(t, setup)
	d.Env = append(d.Env, fmt.Sprintf("DETACH_STORE_MIN_FREE=%d", minFree))
	d.Start(t)
	return disk, d
}

// Neither one large mail nor many together take the disk below store.min_free, also while they
// arrive. Mail without attachments passes, and what was refused leaves nothing.
func TestSpaceIsKeptFree(t *testing.T) {
	faults.Covers(t, 98)
	if !mayMount(t) {
		return
	}
	disk, d := onSmallDisk(t, stage.Setup{})
	stop := watchSpace(t, disk)

	reply, err := servers.Connect(t, d.Proxy).Send(sized(0, 100))
	if err != nil || !strings.HasPrefix(reply, "451 4.3.1 ") {
		t.Errorf("a mail larger than the disk got %q, %v", reply, err)
	}
	wantStored(t, d, 0)

	accepted := sendTogether(t, d.Proxy, 12, 7)
	if accepted == 0 || accepted > (diskSize-minFree)/(7<<20) {
		t.Errorf("%d of 12 mails of 7 MiB were accepted, want some, and at most those that fit", accepted)
	}
	if got := stop(); got < minFree-slop {
		t.Errorf("%d bytes were left free at the least, want %d", got, minFree)
	}
	wantStored(t, d, accepted)
	for i := 0; freeBytes(t, disk) > minFree+1<<20; i++ {
		stage.Must(t, os.WriteFile(filepath.Join(disk, fmt.Sprint("log", i)), make([]byte, 1<<20), 0o600))
	}
	stage.Gets(t, d.Proxy, "250", stage.Untouchable["plain text"])
	d.Box.Want(t, accepted+1)
}

// sendTogether sends so many mails at the same time and returns how many were accepted. The others
// must be deferred.
func sendTogether(t *testing.T, addr string, mails, mib int) (accepted int) {
	t.Helper()
	replies := make(chan string, mails)
	var all sync.WaitGroup
	for i := range mails {
		c := servers.Connect(t, addr)
		all.Go(func() {
			reply, err := c.Send(sized(i+1, mib))
			if err != nil {
				reply = err.Error()
			}
			replies <- reply
		})
	}
	all.Wait()
	close(replies)
	for reply := range replies {
		if strings.HasPrefix(reply, "250 ") {
			accepted++
		} else if !strings.HasPrefix(reply, "451 4.3.1 ") {
			t.Errorf("got %q, want 250 or 451 4.3.1", reply)
		}
	}
	return accepted
}

// watchSpace notes the least free space until stop, which returns it.
func watchSpace(t *testing.T, disk string) (stop func() (least int64)) {
	low, done, ended := freeBytes(t, disk), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				low = min(low, freeBytes(t, disk))
			}
		}
	}()
	return func() int64 { close(done); <-ended; return low }
}

// Debian's default is one partition. When attachments have taken their part of it, Postfix still
// takes the mail that needs no store.
func TestMailPassesWhereTheQueueIs(t *testing.T) {
	faults.Covers(t, 98)
	if !mayMount(t) {
		return
	}
	if os.Getenv(inNamespace) != "" {
		t.Skip("Postfix does not run in a namespace with one user; TestSpaceIsKeptFree covers the rest")
	}
	proxy := servers.FreeAddr(t)
	box, after := servers.NewMailbox(t), servers.FreeAddr(t)
	disk, d := onSmallDisk(t, stage.Setup{Listen: proxy, Reinject: after})
	t.Setenv("TMPDIR", disk)
	pf := stage.StartPostfix(t, servers.PostfixConfig{Filter: proxy, After: after, Destination: box.Addr, Master: queueHere})
	for i := range 12 { // until none fits any more
		servers.Send(t, pf.Front, "", sized(i, 7))
	}
	for i := 0; freeBytes(t, disk) > minFree; i++ { // and other programs write, too
		stage.Must(t, os.WriteFile(filepath.Join(disk, fmt.Sprint("log", i)), make([]byte, 1<<20), 0o600))
	}
	stored := len(d.Objects(t))
	if free := freeBytes(t, disk); free < minFree-2*slop || free > minFree || stored == 0 {
		t.Errorf("%d objects are stored, and %d bytes are free, want a little less than %d", stored, free, minFree)
	}
	stage.Gets(t, pf.Front, "451", stage.TextAndPDF)
	stage.Gets(t, pf.Front, "250", stage.Untouchable["plain text"])
	pf.WaitEmpty(servers.Patience)
	box.Want(t, stored+1)
}

// queueHere has Postfix's usual message_size_limit behind: it needs half as much again to be free.
const queueHere = `
{{front}} inet n - n - - smtpd
  -o smtpd_proxy_filter={{filter}}
  -o message_size_limit=4294967296
{{after}} inet n - n - - smtpd
  -o smtpd_proxy_filter=
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o message_size_limit=10240000
`
