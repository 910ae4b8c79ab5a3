//go:build unix

package keyring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// secretService and secretRoot begin the two secrets of these tests. No address contains four bytes of
// them in a row, and they are not the characters of hexadecimal digits, which a crash prints many of.
const (
	secretService = 0xa1
	secretRoot    = 0x67 // g
)

func secretKeyring(t *testing.T) (*Keyring, string) {
	t.Helper()
	r, err := Open(filepath.Join(t.TempDir(), "keys"))
	must.Succeed(t, err)
	file := keyFileOf(t, ascending(secretService), ascending(secretRoot))
	c, err := parse(strings.NewReader(string(file)), int64(len(file)))
	must.Succeed(t, err)
	e := "2027-02-28." + c.service.ID()
	must.Succeed(t, os.WriteFile(filepath.Join(r.dir, e+keySuffix), file, 0o600))
	return r, e
}

// leak returns four bytes of a secret in a row if they are in the output, in hex, in a list, or as
// a number in either byte order.
func leak(out string) string {
	for _, b := range [][]byte{ascending(secretService), ascending(secretRoot)} {
		for i := range len(b) - 3 {
			x := b[i : i+4]
			for _, s := range []string{
				hex.EncodeToString(x), hex.EncodeToString([]byte{x[3], x[2], x[1], x[0]}), string(x), strings.Trim(fmt.Sprintf("%q", x), `"`),
				fmt.Sprintf("%#x, %#x, %#x, %#x", x[0], x[1], x[2], x[3]), fmt.Sprintf("%d %d %d %d", x[0], x[1], x[2], x[3]),
			} {
				if strings.Contains(out, s) {
					return s
				}
			}
		}
	}
	return ""
}

func TestKeyringDoesNotPrintItsSecrets(t *testing.T) {
	faults.Covers(t, 82)
	r, name := secretKeyring(t)
	epochs, err := r.Epochs()
	must.Succeed(t, err)
	k, err := r.keys.open(epochs[0])
	must.Succeed(t, err)
	defer k.Close()
	r.keys.known[epochs[0]] = known{content: k.content}
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %o %c") {
		for _, v := range []any{r, r.keys, r.writer, r.records, *k.content, k.content, k, r.keys.known} {
			if s := leak(fmt.Sprintf(verb, v)); s != "" {
				t.Errorf("%s of %T prints %q of a secret", verb, v, s)
			}
		}
	}
	other := crypto.Epoch("2027-02-28.aaaa2345") // the errors about a wrong name and about damage
	file, err := os.ReadFile(filepath.Join(r.dir, name+keySuffix))
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(filepath.Join(r.dir, string(other)+keySuffix), file, 0o600))
	if err := r.Check(other); !errors.Is(err, ErrDamaged) || leak(err.Error()) != "" {
		t.Errorf("got %v, want ErrDamaged without a secret", err)
	}
}

// unused marks values in a crash's stacks that are the content of unused slots.
var unused = regexp.MustCompile(`0x[0-9a-f]+\?`)

// A process that crashes while it derives or punctures prints the arguments of each function.
func TestCrashOfAKeyringShowsNoSecret(t *testing.T) {
	faults.Covers(t, 82)
	for _, how := range []string{"panic", "quit", "control"} {
		r, _ := secretKeyring(t)
		p := start(t, "die", r.dir, how)
		_ = p.in.Close()
		if err := p.Wait(); err == nil || !strings.Contains(p.out.String(), "keyring.puncture.walk") {
			t.Errorf("%s: %v, and not inside of walk:\n%s", how, err, p.out)
		}
		// A node that is passed by value is found.
		if s := leak(unused.ReplaceAllString(p.out.String(), "")); (s != "") != (how == "control") {
			t.Errorf("%s: found %q in\n%s", how, s, p.out)
		}
	}
}

// jobDie dies while it writes the nodes of a punctured key file.
func jobDie(t *testing.T, dir, how string) {
	debug.SetTraceback("all")
	must.Succeed(t, syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}))
	r, err := Open(dir)
	must.Succeed(t, err)
	epochs, err := r.Epochs()
	must.Succeed(t, err)
	k, err := r.keys.open(epochs[0])
	must.Succeed(t, err)
	if how == "control" {
		ready := make(chan struct{})
		go hold(node(ascending(secretRoot)), ready)
		<-ready
	}
	_ = writePunctured(&deadly{how: how}, k.content, k, []path{1, 1 << 60, 2 << 60, 3 << 60, 1 << 63})
}

//go:noinline
func hold(n node, ready chan<- struct{}) {
	ready <- struct{}{}
	<-make(chan struct{}) // forever
	runtime.KeepAlive(n)
}

// deadly kills the process when the first nodes arrive: bufio hands them over in pieces of 4096
// bytes.
type deadly struct{ how string }

func (d *deadly) Write([]byte) (int, error) {
	if d.how == "quit" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGQUIT)
		select {}
	}
	panic("dead")
}
