package servers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Process is a running program.
type Process struct {
	*exec.Cmd
	Ended chan struct{} // closed when it has ended
	Err   error         // what it ended with
}

// Launch starts a program whose output is appended to a log file. The caller ends it.
func Launch(t T, cmd *exec.Cmd, log string) *Process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	Must(t, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	Must(t, cmd.Start())
	p := &Process{Cmd: cmd, Ended: make(chan struct{})}
	go func() {
		p.Err = cmd.Wait()
		close(p.Ended)
	}()
	return p
}

// Run starts a program, waits until it listens on addr, and ends it when the test ends.
func Run(t T, cmd *exec.Cmd, log, addr string) *Process {
	t.Helper()
	p := Launch(t, cmd, log)
	t.Cleanup(func() {
		p.End(syscall.SIGTERM)
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("%s: %s", filepath.Base(cmd.Path), text)
		}
	})
	p.Await(t, addr)
	return p
}

// Await waits until the program listens. It dials often, since tests measure how long that takes.
func (p *Process) Await(t T, addr string) {
	t.Helper()
	timeout := time.After(Patience)
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-time.After(time.Millisecond):
			continue
		case <-t.Context().Done():
		case <-timeout:
		case <-p.Ended:
			err = fmt.Errorf("it has ended: %w", p.Err)
		}
		t.Fatalf("%s does not listen: %v", filepath.Base(p.Path), err)
	}
}

// End ends the program with a signal and returns the program's error.
func (p *Process) End(sig syscall.Signal) error {
	p.Process.Signal(syscall.SIGCONT) // a stopped process hears nothing
	p.Process.Signal(sig)
	return p.Wait()
}

// Wait waits until the program has ended and returns its error. It kills a program that does not
// end within Patience.
func (p *Process) Wait() error {
	select {
	case <-p.Ended:
		return p.Err
	case <-time.After(Patience):
		p.Process.Kill()
		<-p.Ended
		return fmt.Errorf("it had not ended after %v: %w", Patience, p.Err)
	}
}
