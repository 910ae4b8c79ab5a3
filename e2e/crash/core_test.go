package crash

import (
	"os/exec"
	"syscall"
	"testing"

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
