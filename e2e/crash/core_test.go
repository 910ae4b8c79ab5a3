package crash

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// Keys are in memory, so the process never writes a core dump, even when ulimit allows one.
func TestNoCoreIsWritten(t *testing.T) {
	faults.Covers(t, 82)
	d := stage.Configure(t, stage.Setup{})
	d.Wrap = []string{"sh", "-c", `ulimit -c unlimited; cd "$TMPDIR"; exec "$@"`, "sh"}
	d.Env = []string{"GOTRACEBACK=crash"}
	d.Start(t)
	stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)
	d.Signal(t, syscall.SIGABRT)
	err := d.Wait()
	ended, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatalf("detach serve ended with %v, want a signal", err)
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("detach serve ended with %v, want SIGABRT and no core", err)
	}
}

// The memory of the process, with keys in it, is closed to other processes of its user: they cannot
// trace it or read it in /proc, and the kernel writes no core, not even to a program.
func TestMemoryIsClosedToOtherProcesses(t *testing.T) {
	faults.Covers(t, 82)
	if runtime.GOOS != "linux" {
		t.Skip("Linux's PR_SET_DUMPABLE")
	}
	var unprivileged []string // root may read everything, unless it has no capabilities
	if os.Geteuid() == 0 {
		servers.Need(t, "setpriv")
		unprivileged = []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all"}
	}
	readable := func(pid int) bool {
		args := append(slices.Clone(unprivileged), "cat", fmt.Sprintf("/proc/%d/environ", pid))
		return exec.Command(args[0], args[1:]...).Run() == nil
	}
	d := stage.Configure(t, stage.Setup{})
	d.Wrap = unprivileged
	d.Start(t)
	if readable(d.Pid()) {
		t.Error("another process of the user can read the memory of detach serve")
	}
	// The same check on a process that is dumpable.
	args := append(slices.Clone(unprivileged), "cat")
	other := exec.Command(args[0], args[1:]...)
	in, err := other.StdinPipe()
	stage.Must(t, err)
	stage.Must(t, other.Start())
	servers.Eventually(t, servers.Patience, "the memory of another process to be readable", func() bool { return readable(other.Process.Pid) })
	stage.Must(t, in.Close())
	stage.Must(t, other.Wait())
}
