package embedded_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/ipfs"
	"github.com/nkirchhoffer/detach-mta/ipfs/embedded"
	"github.com/nkirchhoffer/detach-mta/ipfs/storetest"
)

func openStore(t testing.TB, dir string) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(dir, nil)
	must.Succeed(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	faults.Covers(t, 38, 44, 48, 53, 77)
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		dir := filepath.Join(t.TempDir(), "objects")
		return storetest.Backend{
			Store:   openStore(t, dir),
			Objects: func(t *testing.T) []string { return names(t, dir) },
			Collect: func(*testing.T) {},
			Damage: func(t *testing.T, root cid.Cid, b ipfs.Block, how storetest.Damage) {
				damageCAR(t, filepath.Join(dir, root.String()+".car"), b, how)
			},
			Stop: func(t *testing.T) {
				// As if the volume were unmounted: permissions would not stop root.
				must.Succeed(t, os.RemoveAll(dir))
				must.Succeed(t, os.WriteFile(dir, nil, 0o600))
			},
		}
	})
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must.Succeed(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// damageCAR damages the section of one block.
func damageCAR(t *testing.T, name string, b ipfs.Block, how storetest.Damage) {
	t.Helper()
	car, err := os.ReadFile(name)
	must.Succeed(t, err)
	// Blocks come before their parents, so the first mention after the header is the section.
	i := ipfs.CARHeaderSize + bytes.Index(car[ipfs.CARHeaderSize:], b.CID.Bytes())
	end := i + len(b.CID.Bytes()) + len(b.Data)
	switch how {
	case storetest.Flip:
		car[(i+len(b.CID.Bytes())+end)/2] ^= 0x10
	case storetest.Truncate:
		car = car[:end-1]
	case storetest.Remove:
		head := len(binary.AppendUvarint(nil, uint64(end-i)))
		car = append(car[:i-head:i-head], car[end:]...)
	}
	must.Succeed(t, os.WriteFile(name, car, 0o600))
}

// A CAR that is cut or overwritten anywhere gives correct bytes, and then an error.
func TestDamagedFileIsAnError(t *testing.T) {
	faults.Covers(t, 77)
	dir := t.TempDir()
	s := openStore(t, dir)
	data := storetest.Content(1, 1<<20+5000)
	root := storetest.PutFile(t, s, bytes.NewReader(data))
	name := filepath.Join(dir, root.String()+".car")
	good, err := os.ReadFile(name)
	must.Succeed(t, err)
	check := func(what string, at int, car []byte) {
		must.Succeed(t, os.WriteFile(name, car, 0o600))
		got, err := storetest.ReadFile(t, s, root)
		if err == nil || !errors.Is(err, ipfs.ErrCorrupt) && !errors.Is(err, ipfs.ErrNotFound) {
			t.Errorf("%s at %d: got %v, want ErrCorrupt", what, at, err)
		}
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%s at %d: read a wrong byte", what, at)
		}
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		at := rnd.IntN(len(good))
		if i < 20 { // the header and the first section's head
			at = i * 5
		}
		check("cut", at, good[:at])
		bad := bytes.Clone(good)
		bad[at] ^= byte(1 << rnd.IntN(8))
		check("flipped", at, bad)
		check("overwritten", at, append(good[:at:at], make([]byte, len(good)-at)...))
	}
	must.Succeed(t, os.WriteFile(name, good, 0o600))
	if got, err := storetest.ReadFile(t, s, root); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the good file: %d bytes, %v", len(got), err)
	}
	must.Succeed(t, os.WriteFile(name, append(good, 0), 0o600))
	if _, err := storetest.ReadFile(t, s, root); !errors.Is(err, ipfs.ErrCorrupt) {
		t.Errorf("one byte more: got %v, want ErrCorrupt", err)
	}
}

// Opening a store removes only files that a crash left.
func TestOnlyLeftoversOfACrashAreRemoved(t *testing.T) {
	faults.Covers(t, 46)
	dir := filepath.Join(t.TempDir(), "objects[1] *?") // not a glob pattern
	s := openStore(t, dir)
	kept := storetest.PutFile(t, s, strings.NewReader("kept"))
	dead := filepath.Join(dir, "put-123.tmp")
	must.Succeed(t, os.WriteFile(dead, []byte("half"), 0o600))
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600))

	root, err := s.Put(t.Context(), "n", func(add ipfs.AddFunc) (cid.Cid, error) {
		n, err := ipfs.AddFile(add, strings.NewReader("being written"))
		if err != nil {
			return cid.Undef, err
		}
		openStore(t, dir)
		if _, err := os.Stat(dead); err == nil {
			t.Error("the file that a crash left still exists")
		}
		return n.CID, nil
	})
	if err != nil {
		t.Errorf("the file was taken from its writer: %v", err)
	}
	for _, c := range []cid.Cid{kept, root} {
		_, err := storetest.ReadFile(t, s, c)
		must.Succeed(t, err)
	}
	if got := len(names(t, dir)); got != 3 {
		t.Errorf("%d files, want 3: %v", got, names(t, dir))
	}
}

// A store that is open for reading does not remove leftovers or create a missing directory.
func TestReadOnlyStoreChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	data := storetest.Content(5, 1<<20+5)
	root := storetest.PutFile(t, openStore(t, dir), bytes.NewReader(data))
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "put-123.tmp"), []byte("half"), 0o600))
	before := names(t, dir)
	s, err := embedded.OpenReadOnly(dir)
	must.Succeed(t, err)
	defer s.Close()
	if got, err := storetest.ReadFile(t, s, root); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	_, err = storetest.TryPutFile(t.Context(), s, strings.NewReader("x"))
	for what, err := range map[string]error{"Put": err, "Delete": s.Delete(t.Context(), root), "Check": s.Check(t.Context())} {
		if !errors.Is(err, ipfs.ErrUnavailable) || !strings.Contains(err.Error(), "reading only") {
			t.Errorf("%s: %v, want ErrUnavailable and the reason", what, err)
		}
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the directory has %q, want %q as before", after, before)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := embedded.OpenReadOnly(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing directory: %v, want an error that names it", err)
	}
	if _, err := os.Lstat(missing); err == nil {
		t.Error("the missing directory was created")
	}
}

// A process that opens the store again and again does not remove a file that is being written.
func TestOpeningTakesNoFileFromItsWriter(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := embedded.Open(dir, nil); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for i := range 100 {
		storetest.PutFile(t, s, io.LimitReader(storetest.Chacha(uint64(i)), 10))
	}
	close(stop)
	<-done
}

// On a full disk Put fails with ErrUnavailable and leaves no file.
func TestFullDiskLeavesNothing(t *testing.T) {
	faults.Covers(t, 43)
	var old syscall.Rlimit
	must.Succeed(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	limit := syscall.Rlimit{Cur: 3 << 20, Max: old.Max}
	must.Succeed(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old)

	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := storetest.TryPutFile(t.Context(), s, io.LimitReader(storetest.Chacha(7), 5<<20))
	if !errors.Is(err, ipfs.ErrUnavailable) || !errors.Is(err, syscall.EFBIG) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left files: %v", got)
	}
}

// Another process replaces an object whose index is cached.
func TestReplacedFileIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	data := storetest.Content(8, 20<<20+1) // more than one flush
	root := storetest.PutFile(t, s, bytes.NewReader(data))
	_, err := storetest.ReadFile(t, s, root)
	must.Succeed(t, err)
	// The new file has the same object in another order, as `ipfs dag export` would write it.
	blocks, err := s.Open(t.Context(), root)
	must.Succeed(t, err)
	var car bytes.Buffer
	must.Succeed(t, ipfs.ExportCAR(t.Context(), &car, blocks, root, "", 0))
	must.Succeed(t, blocks.Close())
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "new"), car.Bytes(), 0o600))
	must.Succeed(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, root.String()+".car")))
	if got, err := storetest.ReadFile(t, s, root); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func Benchmark(b *testing.B) { storetest.Benchmark(b, openStore(b, b.TempDir())) }
