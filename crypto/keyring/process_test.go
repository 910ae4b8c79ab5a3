//go:build unix

package keyring

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// processEnv tells TestProcess what to do, in which directory: JOB DIR ARGUMENT.
const processEnv = "DETACH_TEST_KEYRING"

// TestProcess is the process that other tests start.
func TestProcess(t *testing.T) {
	words := strings.Fields(os.Getenv(processEnv))
	if len(words) != 3 {
		t.Skip("run by other tests")
	}
	jobs[words[0]](t, words[1], words[2])
}

var jobs = map[string]func(t *testing.T, dir, argument string){
	"create": jobCreate, "destroy": jobDestroy, "read": jobRead, "crash": jobCrash, "die": jobDie, "full": jobFull,
}

// process is TestProcess in another process.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bytes.Buffer
}

func start(t *testing.T, job, dir, argument string) process {
	t.Helper()
	exe, err := os.Executable()
	must.Succeed(t, err)
	p := process{Cmd: exec.Command(exe, "-test.run=^TestProcess$"), out: new(bytes.Buffer)}
	p.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", processEnv, job, dir, argument))
	p.Stdout, p.Stderr = p.out, p.out
	p.in, err = p.StdinPipe()
	must.Succeed(t, err)
	must.Succeed(t, p.Start())
	return p
}

func (p process) finish(t *testing.T) {
	t.Helper()
	_ = p.in.Close()
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.out)
	}
}

// waitForStart blocks until the test closes stdin, so that all processes begin together.
func waitForStart() { _, _ = bufio.NewReader(os.Stdin).ReadString('\n') }

const creators = 4 // goroutines in each process

func jobCreate(t *testing.T, dir, _ string) {
	waitForStart()
	made := make(chan crypto.Epoch)
	for range creators {
		go func() {
			r, err := Open(dir)
			if err != nil {
				t.Error(err)
			} else if e, err := r.Writer(testPeriod); err != nil {
				t.Error(err)
			} else {
				made <- e
				return
			}
			made <- ""
		}()
	}
	for range creators {
		fmt.Println("made", <-made)
	}
}

func TestProcessesAgreeOnANewEpoch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	var all []process
	for range 5 {
		all = append(all, start(t, "create", dir, "-"))
	}
	for _, p := range all {
		_ = p.in.Close()
	}
	made := make(map[string]int)
	for _, p := range all {
		p.finish(t)
		for line := range strings.Lines(p.out.String()) {
			if strings.HasPrefix(line, "made ") {
				made[line]++
			}
		}
	}
	if len(made) != 1 {
		t.Errorf("made: %v, want one epoch", made)
	}
	wantFiles(t, dir, 1)
}

// numbered returns the n-th core of a test. Neighbours are close in the tree.
func numbered(n int) cid.Cid { return coreAt(uint64(n)<<40 | uint64(n%2)<<63) }

func jobDestroy(t *testing.T, dir, argument string) {
	first, err := strconv.Atoi(argument)
	must.Succeed(t, err)
	r, err := Open(dir)
	must.Succeed(t, err)
	epochs, err := r.Epochs()
	must.Succeed(t, err)
	waitForStart()
	for n := first; n < first+each; n += 2 {
		must.Succeed(t, r.Destroy(epochs[0], numbered(n), numbered(n+1)))
	}
}

const each = 10 // destroyed by each process

// Several processes destroy at once, while others read. No puncture is lost, nothing else is, and
// no reader ever gets a wrong share.
func TestProcessesPunctureAtOnce(t *testing.T) {
	faults.Covers(t, 109)
	r, e := newTestKeyring(t)
	whole, err := r.Export(e)
	must.Succeed(t, err)
	want := make(map[int]crypto.Share)
	const workers, kept = 4, 5
	for n := range workers*each + kept {
		want[n], err = r.Share(e, numbered(n))
		must.Succeed(t, err)
	}
	var writers, readers []process
	for n := range workers {
		writers = append(writers, start(t, "destroy", r.dir, strconv.Itoa(n*each)))
	}
	for range 2 {
		readers = append(readers, start(t, "read", r.dir, strconv.Itoa(workers*each+kept)))
	}
	for _, p := range readers { // each says that it has the shares of the whole tree
		for n := range workers*each + kept {
			_, err := fmt.Fprintln(p.in, want[n].Encode())
			must.Succeed(t, err)
		}
	}
	for _, p := range writers {
		p.finish(t)
	}
	for _, p := range readers {
		p.finish(t)
	}
	var paths []path
	for n := range workers*each + kept {
		got, err := r.Share(e, numbered(n))
		if n < workers*each {
			if !errors.Is(err, ErrDestroyed) {
				t.Errorf("%d: got %v, want ErrDestroyed", n, err)
			}
			p, err := pathOf(numbered(n))
			must.Succeed(t, err)
			paths = append(paths, p)
		} else if err != nil || got != want[n] {
			t.Errorf("%d: another share, error %v", n, err)
		}
	}
	if got, err := r.Export(e); err != nil || !bytes.Equal(got, punctured(t, whole, paths...)) {
		t.Errorf("not the key file of one process that destroys all: %v", err)
	}
	wantFiles(t, r.dir, 1)
}

// jobRead reads shares from stdin, and then compares them with what the keyring says, until stdin
// ends.
func jobRead(t *testing.T, dir, argument string) {
	n, err := strconv.Atoi(argument)
	must.Succeed(t, err)
	in := bufio.NewScanner(os.Stdin)
	want := make([]string, n)
	for i := range want {
		in.Scan()
		want[i] = in.Text()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	r, err := Read(dir)
	must.Succeed(t, err)
	epochs, err := r.Epochs()
	must.Succeed(t, err)
	destroyed := make([]bool, n)
	for {
		for i := range want {
			got, err := r.Share(epochs[0], numbered(i))
			switch {
			case errors.Is(err, ErrDestroyed):
				destroyed[i] = true
			case err != nil || got.Encode() != want[i]:
				t.Fatalf("%d: a wrong share, error %v", i, err)
			case destroyed[i]:
				t.Fatalf("%d: back after its destruction", i)
			}
		}
		select {
		case <-ended:
			return
		default:
		}
	}
}

// changes are what can be interrupted. Each is done to a keyring of makeScene.
var changes = map[string]func(r *Keyring, s scene) error{
	"writer":   func(r *Keyring, _ scene) error { _, err := r.Writer("2029-01-01"); return err },
	"destroy":  func(r *Keyring, s scene) error { return r.Destroy(s.Old, numbered(1), numbered(2)) },
	"extended": func(r *Keyring, s scene) error { return r.Destroy(s.Old, numbered(3)) },
	"end":      func(r *Keyring, s scene) error { return r.End(s.To) },
	"merge":    func(r *Keyring, s scene) error { return r.Merge(s.Old, s.Other) },
	"install":  func(r *Keyring, s scene) error { return r.Merge(s.Foreign, s.ForeignKey) },
	"extend": func(r *Keyring, s scene) error {
		b, err := r.Share(s.Old, numbered(4))
		if err != nil {
			return err
		}
		return r.Extend(coreAt(99), numbered(4), s.Old, s.To, false, b)
	},
}

// scene is a keyring with two epochs, in which the object 3 was extended from Old into To, and the
// object 5 was destroyed.
type scene struct {
	Dir        string
	original   string // the directory of the scene that this is a copy of
	Old, To    crypto.Epoch
	Other      []byte       // Old's key file, in which the object 6 was destroyed instead
	Foreign    crypto.Epoch // of another keyring
	ForeignKey []byte
}

var extendedRoot = coreAt(98)

func makeScene(t *testing.T) scene {
	t.Helper()
	r, old := newTestKeyring(t)
	to, err := r.Writer("2028-02-28")
	must.Succeed(t, err)
	b, err := r.Share(old, numbered(3))
	must.Succeed(t, err)
	must.Succeed(t, r.Extend(extendedRoot, numbered(3), old, to, false, b))
	whole, err := r.Export(old)
	must.Succeed(t, err)
	p, err := pathOf(numbered(6))
	must.Succeed(t, err)
	must.Succeed(t, r.Destroy(old, numbered(5)))
	far, foreign := newTestKeyring(t)
	foreignKey, err := far.Export(foreign)
	must.Succeed(t, err)
	return scene{r.dir, r.dir, old, to, punctured(t, whole, p), foreign, foreignKey}
}

// copyOf returns the scene with a copy of its keyring.
func (s scene) copyOf(t *testing.T) scene {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	copyKeyring(t, dir, s.Dir)
	s.Dir = dir
	return s
}

// steps returns the steps of a change.
func (s scene) steps(t *testing.T, change string) (names []string) {
	t.Helper()
	r, err := Open(s.Dir)
	must.Succeed(t, err)
	r.at = func(step string) { names = append(names, step) }
	must.Succeed(t, changes[change](r, s))
	return names
}

// jobCrash does a change, and is killed before one of its steps.
func jobCrash(t *testing.T, file, argument string) {
	b, err := os.ReadFile(file)
	must.Succeed(t, err)
	var s scene
	must.Succeed(t, json.Unmarshal(b, &s))
	change, at, _ := strings.Cut(argument, ":")
	n, err := strconv.Atoi(at)
	must.Succeed(t, err)
	r, err := Open(s.Dir)
	must.Succeed(t, err)
	r.at = func(string) {
		if n--; n < 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	t.Error("not killed: ", changes[change](r, s))
}

func (s scene) crash(t *testing.T, change string, n int) {
	t.Helper()
	b, err := json.Marshal(s)
	must.Succeed(t, err)
	file := s.Dir + ".json"
	must.Succeed(t, os.WriteFile(file, b, 0o600))
	p := start(t, "crash", file, fmt.Sprintf("%s:%d", change, n))
	_ = p.in.Close()
	_ = p.Wait()
	if status := p.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %s", p.out)
	}
}

// A process is killed at every step of every change. Afterwards each key file is the old one or the
// new one, nothing that was not to be destroyed is lost, and the next Open and the change repeated
// give what the change alone gives, with nothing left behind.
func TestKilledAtEveryStep(t *testing.T) {
	faults.Covers(t, 109)
	s := makeScene(t)
	before := contents(t, s.Dir)
	for change := range changes {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			whole := s.copyOf(t)
			steps := whole.steps(t, change)
			t.Log(steps)
			after := contents(t, whole.Dir)
			for n, step := range steps {
				s := s.copyOf(t)
				s.crash(t, change, n)
				for name, got := range contents(t, s.Dir) {
					if strings.HasSuffix(name, keySuffix) && name[0] != '.' && got != before[name] && got != after[name] && !fresh(change, name, before) && !ending(change, step) {
						t.Errorf("killed before %d, %s: %s is neither the old file nor the new one", n, step, name)
					}
				}
				checkAfterCrash(t, s, change, fmt.Sprintf("killed before %d, %s", n, step), after)
			}
		})
	}
}

// fresh says that a change makes key files with random names and content.
func fresh(change, name string, before map[string]string) bool {
	return change == "writer" && before[name] == ""
}

// ending says that the file is that of an ended epoch, which is overwritten and then deleted.
func ending(change, step string) bool { return change == "end" && step == "unlink" }

func checkAfterCrash(t *testing.T, s scene, change, when string, after map[string]string) {
	t.Helper()
	// Before anything is repaired, a reader gets right shares or none.
	r, err := Read(s.Dir)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	checkShares(t, r, s, change, when)
	r, err = Open(s.Dir)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	checkShares(t, r, s, change, when)
	for name := range contents(t, s.Dir) {
		if name[0] == '.' {
			t.Errorf("%s: Open leaves %s", when, name)
		}
	}
	if err := changes[change](r, s); err != nil {
		t.Errorf("%s, and repeated: %v", when, err)
	}
	got := contents(t, s.Dir)
	if change == "writer" || change == "extend" {
		if len(got) != len(after) { // content is random
			t.Errorf("%s, and repeated: %d files, want %d", when, len(got), len(after))
		}
	} else if !maps.Equal(got, after) {
		t.Errorf("%s, and repeated: another result; files %q, want %q", when, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(after)))
	}
}

// mayGo are the objects that a change destroys.
var mayGo = map[string][]int{"destroy": {1, 2}, "extended": {3}, "merge": {6}}

// checkShares checks that the shares of the old epoch are those of the scene, or were destroyed.
func checkShares(t *testing.T, r *Keyring, s scene, change, when string) {
	t.Helper()
	want, err := Read(s.original)
	must.Succeed(t, err)
	for n := range 9 {
		share, wantErr := want.Share(s.Old, numbered(n))
		got, err := r.Share(s.Old, numbered(n))
		switch {
		case errors.Is(err, ErrDestroyed) && (wantErr != nil || slices.Contains(mayGo[change], n)):
		case err != nil || wantErr != nil || got != share:
			t.Errorf("%s: object %d has another share than before, error %v", when, n, err)
		}
	}
}

// jobFull destroys objects while no file can grow beyond the size of the whole key file.
func jobFull(t *testing.T, dir, _ string) {
	r, err := Open(dir)
	must.Succeed(t, err)
	epochs, err := r.Epochs()
	must.Succeed(t, err)
	signal.Ignore(syscall.SIGXFSZ)
	must.Succeed(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 500, Max: 500}))
	fmt.Println("destroy:", r.Destroy(epochs[0], numbered(1), numbered(2)))
}

// If the disk is full the key file stays as it is, and the mark alone keeps the share away. The
// next Open punctures.
func TestFullDiskKeepsTheKeyFile(t *testing.T) {
	faults.Covers(t, 109)
	r, e := newTestKeyring(t)
	whole, err := r.Export(e)
	must.Succeed(t, err)
	want, err := r.Share(e, numbered(3))
	must.Succeed(t, err)
	p := start(t, "full", r.dir, "-")
	p.finish(t)
	if !strings.Contains(p.out.String(), "destroy: puncture the key file") {
		t.Fatalf("the file could be written: %s", p.out)
	}
	if now, err := r.Export(e); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("the key file is another now, error %v", err)
	}
	wantFiles(t, r.dir, 1)
	for range 2 {
		if _, err := r.Share(e, numbered(1)); !errors.Is(err, ErrDestroyed) {
			t.Errorf("got %v, want ErrDestroyed", err)
		}
		if got, err := r.Share(e, numbered(3)); err != nil || got != want {
			t.Errorf("another share, error %v", err)
		}
		r, err = Open(r.dir)
		must.Succeed(t, err)
	}
	if now, err := r.Export(e); err != nil || bytes.Equal(now, whole) {
		t.Errorf("Open does not puncture, error %v", err)
	}
}
