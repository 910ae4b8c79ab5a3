//go:build unix

package crypto

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const crashEnv = "DETACH_TEST_CRASH"

// A process that crashes prints its stacks, and with them the arguments of each function in hex.
// The argument of a function that takes a secret is an address.
//
// Values that the runtime marks with "?" are ignored here. They are the content of unused slots,
// which may be anything that was on the stack before, also eight bytes of a key on their way
// through AES. No package can prevent that: the process must log panics without arguments, and
// write no core.
func TestCrashShowsNoKey(t *testing.T) {
	faults.Covers(t, 82)
	for _, how := range []string{"panic", "panic with the key", "panic with a holder", "runtime error", "SIGQUIT"} {
		for _, level := range []string{"all", "system"} {
			if out := crash(t, how, level); leak(out) != "" {
				t.Errorf("%s, GOTRACEBACK=%s: found %q in\n%s", how, level, leak(out), out)
			}
		}
	}
	// The search finds a key that is passed as bytes.
	if out := crash(t, "control", "all"); leak(out) == "" {
		t.Errorf("a key passed as an array is not found in\n%s", out)
	}
}

// crash runs TestCrasher in another process and returns its output.
func crash(t *testing.T, how, level string) string {
	t.Helper()
	exe, err := os.Executable()
	must.Succeed(t, err)
	cmd := exec.Command(exe, "-test.run=^TestCrasher$")
	cmd.Env = append(os.Environ(), crashEnv+"="+how, "GOTRACEBACK="+level)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "crypto.holdAll") {
		t.Fatalf("%s: the process ended with %v and the output\n%s", how, err, out)
	}
	return string(out)
}

var unused = regexp.MustCompile(`0x[0-9a-f]+\?`)

// leak returns four consecutive bytes of a secret if they are in the output: as a number in either
// byte order, or in a list. Three can be part of an address by chance.
func leak(out string) string {
	out = unused.ReplaceAllString(out, "")
	b := testSecret(crashKey).bytes()
	for i := range len(b) - 3 {
		for _, s := range []string{
			hex.EncodeToString(b[i : i+4]),
			hex.EncodeToString([]byte{b[i+3], b[i+2], b[i+1], b[i]}),
			fmt.Sprintf("%#x, %#x, %#x, %#x", b[i], b[i+1], b[i+2], b[i+3]),
			fmt.Sprintf("%d %d %d %d", b[i], b[i+1], b[i+2], b[i+3]),
		} {
			if strings.Contains(out, s) {
				return s
			}
		}
	}
	return ""
}

// crashKey is the first byte of the secrets that the crashing process has.
const crashKey = 0xa1

// TestCrasher is the process that dies, with secrets in all their forms on its stacks.
func TestCrasher(t *testing.T) {
	how := os.Getenv(crashEnv)
	if how == "" {
		t.Skip("run by TestCrashShowsNoKey")
	}
	must.Succeed(t, syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}))
	k, ready := Key{testSecret(crashKey)}, make(chan struct{})
	go holdAll(k, Share{testSecret(crashKey)}, Fragment{testSecret(crashKey)}, ServiceSecret{testSecret(crashKey)}, ready)
	<-ready
	go func() { _, _ = randomSecret(stalled{ready}) }()
	<-ready
	if how == "control" {
		go holdBytes([SecretSize]byte(k.bytes()), ready)
		<-ready
	}
	die(how, k, &holder{hidden: k, Exported: k})
}

//go:noinline
func holdAll(k Key, s Share, f Fragment, service ServiceSecret, ready chan<- struct{}) {
	ready <- struct{}{}
	<-make(chan struct{}) // forever
	runtime.KeepAlive([]any{k, s, f, service})
}

//go:noinline
func holdBytes(b [SecretSize]byte, ready chan<- struct{}) {
	ready <- struct{}{}
	<-make(chan struct{}) // forever
	runtime.KeepAlive(b)
}

// stalled is a source of random bytes that blocks after it has given a key.
type stalled struct{ ready chan<- struct{} }

func (s stalled) Read(p []byte) (int, error) {
	copy(p, testSecret(crashKey).bytes())
	s.ready <- struct{}{}
	select {}
}

//go:noinline
func die(how string, k Key, h *holder) {
	switch how {
	case "panic with the key":
		panic(k)
	case "panic with a holder":
		panic(*h)
	case "runtime error":
		k.Stream(0).XORKeyStream(nil, k.bytes())
	case "SIGQUIT":
		_ = syscall.Kill(os.Getpid(), syscall.SIGQUIT)
		select {}
	}
	panic(fmt.Sprint(how, k, *h))
}
