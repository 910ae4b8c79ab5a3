package crypto

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/durable"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const testEpoch Epoch = "2026-11"

func openTestKeyring(t *testing.T) (*Keyring, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	r, err := OpenKeyring(dir)
	must.Succeed(t, err)
	return r, dir
}

func writeKey(t *testing.T, dir string, e Epoch, text string) string {
	t.Helper()
	path := filepath.Join(dir, string(e)+".key")
	must.Succeed(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDeletedKeyFileIsADestroyedSecret(t *testing.T) {
	r, dir := openTestKeyring(t)
	cid := []byte("cid")
	if _, err := r.Share(testEpoch, cid); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("before Ensure: got %v, want ErrNoEpoch", err)
	}
	for range 2 {
		must.Succeed(t, r.Ensure(testEpoch))
	}
	want, err := r.Share(testEpoch, cid)
	must.Succeed(t, err)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: got %v, %v, want mode 0700", info.Mode(), err)
	}
	path := filepath.Join(dir, "2026-11.key")
	text, err := os.ReadFile(path)
	must.Succeed(t, err)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: got %v, %v, want mode 0600", info.Mode(), err)
	}
	if raw, err := hex.DecodeString(strings.TrimSuffix(string(text), "\n")); err != nil || len(raw) != 32 || len(text) != 65 {
		t.Errorf("key file has %d bytes, error %v; want 64 hex digits and a newline", len(text), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("directory has %d entries, %v, want the key file alone", len(entries), err)
	}

	again, err := OpenKeyring(dir)
	must.Succeed(t, err)
	if got, err := again.Share(testEpoch, cid); err != nil || got != want {
		t.Errorf("after reopening: another share, error %v", err)
	}
	if got, err := r.Share(testEpoch, []byte("cie")); err != nil || got == want {
		t.Errorf("another CID: the same share, error %v", err)
	}

	// The secret is destroyed immediately, also for a keyring that has read it.
	must.Succeed(t, os.Remove(path))
	for _, r := range []*Keyring{r, again} {
		if _, err := r.Share(testEpoch, cid); !errors.Is(err, ErrNoEpoch) {
			t.Errorf("after deletion: got %v, want ErrNoEpoch", err)
		}
	}
	must.Succeed(t, r.Ensure(testEpoch))
	if got, err := r.Share(testEpoch, cid); err != nil || got == want {
		t.Errorf("made again: the destroyed secret is back, error %v", err)
	}
}

// The wanted value is HKDF-SHA256 with an empty salt, computed by OpenSSL:
//
//	openssl kdf -keylen 32 -kdfopt digest:SHA256 \
//	  -kdfopt hexkey:000102… -kdfopt info:'detach/v1 sharecid' HKDF
func TestShareIsHKDFOfTheCID(t *testing.T) {
	r, dir := openTestKeyring(t)
	writeKey(t, dir, testEpoch, hex.EncodeToString(testSecret(0).bytes())+"\n")
	got, err := r.Share(testEpoch, []byte("cid"))
	must.Succeed(t, err)
	want := "b96b38c73a9ae87c448239715f5cf968e7d6d917df819319d97ed18981bd5132"
	if hex.EncodeToString(got.Bytes()) != want {
		t.Errorf("got %x, want %s", got.Bytes(), want)
	}
}

// Each epoch has its own secret. A new one changes no other, and a destroyed one takes no other
// with it.
func TestEpochsStandAlone(t *testing.T) {
	faults.Covers(t, 80)
	r, dir := openTestKeyring(t)
	epochs := []Epoch{"2026-09", "2026-10", "2026-11", "2026-11-22"}
	cid, shares, tickets := []byte("cid"), map[Share]bool{}, map[Epoch]string{}
	want := map[Epoch]Share{}
	for _, e := range epochs {
		must.Succeed(t, r.Ensure(e))
		s, err := r.Share(e, cid)
		must.Succeed(t, err)
		shares[s], want[e] = true, s
		tickets[e], err = r.SealTicket(e, []byte(e), cid)
		must.Succeed(t, err)
	}
	if len(shares) != len(epochs) {
		t.Errorf("%d epochs have %d shares of one object", len(epochs), len(shares))
	}
	must.Succeed(t, os.Remove(filepath.Join(dir, "2026-10.key")))
	r, err := OpenKeyring(dir) // after a restart
	must.Succeed(t, err)
	for _, e := range epochs {
		got, err := r.Share(e, cid)
		plain, ticketErr := r.OpenTicket(tickets[e], cid)
		if e == "2026-10" {
			// A destroyed epoch cannot be told from one that never was.
			_, never := r.Share("2026-08", cid)
			if err != never || ticketErr != never || !errors.Is(err, ErrNoEpoch) {
				t.Errorf("destroyed: got %v and %v, never made: %v", err, ticketErr, never)
			}
			continue
		}
		if err != nil || got != want[e] {
			t.Errorf("%s: another share, error %v", e, err)
		}
		if ticketErr != nil || string(plain) != string(e) {
			t.Errorf("%s: ticket opens to %q, %v", e, plain, ticketErr)
		}
	}
	moved := "2026-09" + strings.TrimPrefix(tickets["2026-11"], "2026-11")
	if _, err := r.OpenTicket(moved, cid); !errors.Is(err, ErrTicket) {
		t.Errorf("ticket moved to another epoch: got %v, want ErrTicket", err)
	}
}

func TestUnsafeKeyringsAreRefused(t *testing.T) {
	faults.Covers(t, 82, 97)
	digits := hex.EncodeToString(testSecret(0).bytes())
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		says       string
	}{
		{"group may read", digits + "\n", 0o640, "chmod 600"},
		{"others may read", digits + "\n", 0o604, "chmod 600"},
		{"group may write", digits + "\n", 0o620, "chmod 600"},
		{"empty", "", 0o600, "malformed"},
		{"no newline", digits, 0o600, "malformed"},
		{"short", digits[2:] + "\n", 0o600, "malformed"},
		{"long", digits + "00\n", 0o600, "malformed"},
		{"second line", digits + "\n\n", 0o600, "malformed"},
		{"CRLF", digits + "\r\n", 0o600, "malformed"},
		{"not hex", "xx" + digits[2:] + "\n", 0o600, "malformed"},
		{"huge", strings.Repeat("0", 1<<20), 0o600, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, dir := openTestKeyring(t)
			path := writeKey(t, dir, testEpoch, tt.text)
			must.Succeed(t, os.Chmod(path, tt.mode))
			_, openErr := OpenKeyring(dir)
			_, shareErr := r.Share(testEpoch, nil)
			for what, err := range map[string]error{"OpenKeyring": openErr, "Share": shareErr, "Ensure": r.Ensure(testEpoch)} {
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: got %v, want the file and %q", what, err, tt.says)
				} else if strings.Contains(err.Error(), digits[2:]) {
					t.Errorf("%s: the error quotes the key", what)
				}
			}
		})
	}
	for _, mode := range []os.FileMode{0o777, 0o770, 0o720, 0o702} {
		t.Run(fmt.Sprintf("directory %04o", mode), func(t *testing.T) {
			_, dir := openTestKeyring(t)
			writeKey(t, dir, testEpoch, digits+"\n")
			must.Succeed(t, os.Chmod(dir, mode))
			_, openErr := OpenKeyring(dir)
			_, readErr := ReadKeyring(dir)
			for what, err := range map[string]error{"OpenKeyring": openErr, "ReadKeyring": readErr} {
				if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "chmod 700") {
					t.Errorf("%s: got %v, want the directory and chmod 700", what, err)
				}
			}
		})
	}
	r, dir := openTestKeyring(t)
	writeKey(t, filepath.Dir(dir), "x", digits+"\n")
	for _, e := range []Epoch{"../x", "", "link"} {
		if _, err := r.Share(e, nil); err == nil || errors.Is(err, ErrNoEpoch) {
			t.Errorf("Share of epoch %q: got %v, want a refusal", e, err)
		}
		if err := r.Ensure(e); err == nil {
			t.Errorf("Ensure of epoch %q: got a secret", e)
		}
	}
	path := writeKey(t, dir, "2026-13", digits+"\n")
	if _, err := OpenKeyring(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("name of no epoch: got %v, want %s named", err, path)
	}
}

// A process that dies in create leaves half a secret, or the secret under a second name, which
// would outlive the first when that is destroyed. Both go when the keyring is opened or gets a new
// epoch.
func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	if !durable.Locks {
		t.Skip("locks do not tell a leftover from a secret that is being made")
	}
	r, dir := openTestKeyring(t)
	must.Succeed(t, r.Ensure(testEpoch))
	half, second := filepath.Join(dir, ".new-123"), filepath.Join(dir, ".new-456")
	made, err := durable.CreateLocked(dir, ".new-*")
	must.Succeed(t, err)
	defer made.Close()
	for _, clean := range []func() error{
		func() error { return r.Ensure("2026-12") },
		func() error { _, err := OpenKeyring(dir); return err },
	} {
		must.Succeed(t, errors.Join(os.WriteFile(half, []byte("half"), 0o600), os.Link(r.path(testEpoch), second)))
		must.Succeed(t, clean())
		for _, name := range []string{half, second} {
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("%s is still there", filepath.Base(name))
			}
		}
		if _, err := os.Lstat(made.Name()); err != nil {
			t.Errorf("the file that another process is writing is gone: %v", err)
		}
	}
	if _, err := r.Share(testEpoch, nil); err != nil {
		t.Error(err)
	}
}

const (
	creatorEnv = "DETACH_TEST_KEYRING"
	creators   = 4 // goroutines in each process
)

// TestKeyringCreator is the process that TestProcessesAgreeOnASecret starts. After a line on stdin
// several goroutines, each with its own keyring, make the epoch's secret and print a share.
func TestKeyringCreator(t *testing.T) {
	dir := os.Getenv(creatorEnv)
	if dir == "" {
		t.Skip("run by TestProcessesAgreeOnASecret")
	}
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	must.Succeed(t, err)
	var wg sync.WaitGroup
	for range creators {
		wg.Go(func() {
			r, err := OpenKeyring(dir)
			if err == nil {
				err = r.Ensure(testEpoch)
			}
			if err != nil {
				t.Error(err)
				return
			}
			s, err := r.Share(testEpoch, nil)
			fmt.Printf("share %s %v\n", s.Encode(), err)
		})
	}
	wg.Wait()
}

func TestProcessesAgreeOnASecret(t *testing.T) {
	_, dir := openTestKeyring(t)
	exe, err := os.Executable()
	must.Succeed(t, err)
	const n = 6
	var starts []io.WriteCloser
	var processes []*exec.Cmd
	var outputs [n]bytes.Buffer
	for i := range n {
		cmd := exec.Command(exe, "-test.run=^TestKeyringCreator$")
		cmd.Env = append(os.Environ(), creatorEnv+"="+dir)
		cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
		in, err := cmd.StdinPipe()
		must.Succeed(t, err)
		must.Succeed(t, cmd.Start())
		starts, processes = append(starts, in), append(processes, cmd)
	}
	for _, in := range starts {
		if _, err := io.WriteString(in, "go\n"); err != nil {
			t.Error(err)
		}
	}
	shares := make(map[string]int)
	for i, cmd := range processes {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, outputs[i].String())
		}
		for line := range strings.Lines(outputs[i].String()) {
			if share, ok := strings.CutPrefix(line, "share "); ok {
				shares[share]++
			}
		}
	}
	if r, err := OpenKeyring(dir); err != nil {
		t.Error(err)
	} else if s, err := r.Share(testEpoch, nil); err != nil || len(shares) != 1 || shares[s.Encode()+" <nil>\n"] != n*creators {
		t.Errorf("%d processes of %d goroutines have these shares: %v; error %v", n, creators, shares, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v, want the key file alone", len(entries), err)
	}
}

func TestTicketsOpenForTheirObjectAlone(t *testing.T) {
	r, dir := openTestKeyring(t)
	aad, plain := []byte("cid"), []byte("fragment and time")
	if _, err := r.SealTicket(testEpoch, plain, aad); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("without a secret: got %v, want ErrNoEpoch", err)
	}
	must.Succeed(t, r.Ensure(testEpoch))
	ticket, err := r.SealTicket(testEpoch, plain, aad)
	must.Succeed(t, err)
	if !strings.HasPrefix(ticket, "2026-11.") || strings.Trim(ticket, "0123456789-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		t.Errorf("ticket %q would be escaped in a path", ticket)
	}
	other, err := OpenKeyring(dir) // another gateway
	must.Succeed(t, err)
	if got, err := other.OpenTicket(ticket, aad); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("got %q, %v, want %q", got, err, plain)
	}
	if again, err := r.SealTicket(testEpoch, plain, aad); err != nil || again == ticket {
		t.Errorf("two tickets are equal, error %v", err)
	}
	if _, err := r.OpenTicket(ticket, []byte("cie")); !errors.Is(err, ErrTicket) {
		t.Errorf("for another object: got %v, want ErrTicket", err)
	}
	for i := range ticket {
		altered := []byte(ticket)
		altered[i] ^= 1
		if _, err := r.OpenTicket(string(altered), aad); err == nil {
			t.Errorf("opens with character %d altered", i)
		}
		if _, err := r.OpenTicket(ticket[:i], aad); !errors.Is(err, ErrTicket) {
			t.Errorf("cut at %d: got %v, want ErrTicket", i, err)
		}
	}
	for _, s := range []string{"", ".", "../x.AAAA", "2026-11", "2026-11.", "2026-11.=", "2026-11." + strings.Repeat("A", 1<<20)} {
		if _, err := r.OpenTicket(s, aad); !errors.Is(err, ErrTicket) {
			t.Errorf("%.20q: got %v, want ErrTicket", s, err)
		}
	}
	must.Succeed(t, os.Remove(filepath.Join(dir, "2026-11.key")))
	if _, err := r.OpenTicket(ticket, aad); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("secret destroyed: got %v, want ErrNoEpoch", err)
	}
}
