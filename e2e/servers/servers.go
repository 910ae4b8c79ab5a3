package servers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// T is what a server needs of the test that runs it. Every testing.TB is a T, and so is e2e/stage's
// Program. Fatal, Fatalf and Skipf end the goroutine that calls them.
type T interface {
	Helper()
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Log(args ...any)
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
}

// systemPath finds the programs of a mail server also for a user whose PATH has no sbin.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Need skips the test if one of the programs is not installed, and fails it in CI.
func Need(t T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if LookPath(p) == "" {
			Missing(t, p)
		}
	}
}

// Missing skips the test on a laptop and fails it in CI, where everything is installed.
func Missing(t T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// LookPath returns the path of a program, also of those that a mail server keeps elsewhere. It is
// empty if the program is not installed.
func LookPath(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range strings.Split(systemPath, ":") {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// Linux takes the ports of outgoing connections from 32768 up. A connection could take such a port
// while the server that had it restarts.
const firstPort, endOfPorts = 10000, 32768

// portsGiven counts from a random port up, so that a port does not come again soon.
var portsGiven atomic.Uint32

func init() { portsGiven.Store(rand.Uint32N(endOfPorts - firstPort)) }

// FreeAddr returns a loopback address for a server that cannot say which port it got, or that needs
// the same port after a restart. Until the test ends no other call returns the address, in any
// process: the process that holds a UDP port owns the TCP port of the same number.
func FreeAddr(t T) string {
	t.Helper()
	var err error
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+portsGiven.Add(1)%(endOfPorts-firstPort))
		var l net.Listener
		var reserved net.PacketConn
		if reserved, err = net.ListenPacket("udp", addr); err != nil {
			continue
		}
		if l, err = net.Listen("tcp", addr); err == nil {
			l.Close()
			t.Cleanup(func() { reserved.Close() })
			return addr
		}
		reserved.Close()
	}
	t.Fatalf("no free port: %v", err)
	return ""
}

// Patience bounds the wait for anything that must happen. It is much longer than anything takes,
// since a busy machine is slow.
const Patience = 2 * time.Minute

// Eventually waits until done returns true, and fails the test if that takes longer than within.
func Eventually(t T, within time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Must ends the test at an error that the test is not about.
func Must(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
