package e2e

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// Keys are in the memory of the process, so it leaves no picture of that behind when it crashes, even where it is let.
func TestNoCore(t *testing.T) {
	faults.Covers(t, 82)
	box := servers.NewMailbox(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr})
	d.wrap = []string{"sh", "-c", `ulimit -c unlimited; cd "$TMPDIR"; exec "$@"`, "sh"}
	d.env = []string{"GOTRACEBACK=crash"}
	died := d.start(t)
	d.gets(t, "250", textAndPDF)
	must(t, d.cmd.Process.Signal(syscall.SIGABRT))
	err := <-died
	died <- nil
	ended, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatalf("detach serve ended with %v, want a signal", err)
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("detach serve ended with %v, want SIGABRT and no core", err)
	}
}
