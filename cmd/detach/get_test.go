package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/gateway"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// dataDirs are those of the vaults that stored makes.
var dataDirs = map[link.Link]string{}

// stored is a file in a vault behind a real gateway, whose answers spoil may change.
func stored(t *testing.T, content []byte, spoil func(path string, answer []byte) []byte) link.Link {
	t.Helper()
	h := served(t, spoil)
	batch := h.vault.Begin()
	l, err := batch.Detach(t.Context(), "a.bin", "application/octet-stream", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	dataDirs[l] = h.cfg.DataDir
	return l
}

// served is a vault behind a real gateway, whose answers spoil may change.
func served(t *testing.T, spoil func(path string, answer []byte) []byte) *app {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(spoil(r.URL.Path, rec.Body.Bytes()))
	}))
	t.Cleanup(server.Close)
	cfg := config.Default()
	cfg.DataDir, cfg.Gateway.URL = t.TempDir(), server.URL
	h, err := openApp(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	handler = gateway.New(gateway.Config{BaseURL: server.URL}, h.vault, slog.New(slog.DiscardHandler))
	return h
}

// Nothing that a gateway may answer brings out a byte that was not in the file, or a short success.
func TestFetchTrustsNoGateway(t *testing.T) {
	content := make([]byte, 3<<20+77)
	_, _ = rand.Read(content)
	car := func(change func([]byte) []byte) func(string, []byte) []byte {
		return func(path string, answer []byte) []byte {
			if strings.HasPrefix(path, "/ipfs/") {
				return change(bytes.Clone(answer))
			}
			return answer
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }
	tests := map[string]func(string, []byte) []byte{
		"flipped in the header":    car(flip(20)),
		"flipped in the directory": car(flip(150)),
		"flipped in the file":      car(flip(2 << 20)),
		"flipped late in the file": car(flip(3 << 20)),
		"cut in the file":          car(cut(1 << 20)),
		"nothing":                  car(func([]byte) []byte { return nil }),
		"a page instead":           car(func([]byte) []byte { return []byte("<!doctype html><p>Please log in") }),
		"a page for everything":    func(string, []byte) []byte { return []byte("<!doctype html><p>Please log in") },
		"another share":            func(p string, b []byte) []byte { return spoilPath(p, "/share", b, crypto.ZeroShare().Encode()) },
		"another meta.jwe":         func(p string, b []byte) []byte { return spoilPath(p, "/meta.jwe", b, "a.b.c.d.e") },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			l := stored(t, content, spoil)
			var got bytes.Buffer
			_, err := fetcher{pause: time.Millisecond}.fetch(t.Context(), l, &got)
			if err == nil && !bytes.Equal(got.Bytes(), content) {
				t.Error("no error")
			}
			if !bytes.HasPrefix(content, got.Bytes()) {
				t.Error("released bytes that are not the file's")
			}
			if err != nil && strings.Contains(err.Error(), l.Fragment.Encode()) {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
}

func spoilPath(path, suffix string, answer []byte, instead string) []byte {
	if strings.HasSuffix(path, suffix) {
		return []byte(instead)
	}
	return answer
}

func TestFetch(t *testing.T) {
	for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1} {
		content := make([]byte, size)
		_, _ = rand.Read(content)
		l := stored(t, content, func(_ string, answer []byte) []byte { return answer })
		var got bytes.Buffer
		meta, err := fetcher{pause: time.Millisecond}.fetch(t.Context(), l, &got)
		if err != nil || !bytes.Equal(got.Bytes(), content) || meta.Name != "a.bin" || meta.Size != int64(size) {
			t.Errorf("%d bytes: got %d bytes, %v", size, got.Len(), err)
		}
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	l := stored(t, make([]byte, 3<<20), func(_ string, answer []byte) []byte { return answer })
	ctx, cancel := context.WithCancel(t.Context())
	_, err := fetcher{pause: time.Millisecond}.fetch(ctx, l, writerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want the context's", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var aCID = cid.MustParse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")

// A name is given only to what is whole, and only where there is nothing.
func TestOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(option string, outcome error) error {
		o, err := create(option, "name", aCID, io.Discard)
		if err != nil {
			return err
		}
		_, err = io.WriteString(o, "new")
		return o.finish(errors.Join(err, outcome), 0)
	}
	read := func(name string) string {
		b, _ := os.ReadFile(name)
		return string(b)
	}
	broken := errors.New("broken")
	if err := write("", broken); !errors.Is(err, broken) {
		t.Errorf("err = %v, want what broke", err)
	}
	if left, _ := filepath.Glob("*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := write("", nil); err != nil || read("name") != "new" {
		t.Errorf("wrote %q, %v", read("name"), err)
	}
	if err := os.WriteFile("name", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write("", nil); err == nil || read("name") != "old" {
		t.Errorf("wrote over another file: %q, %v", read("name"), err)
	}
	if err := write("name", broken); err == nil || read("name") != "old" {
		t.Errorf("a broken download replaced a file: %q, %v", read("name"), err)
	}
	if err := write("name", nil); err != nil || read("name") != "new" {
		t.Errorf("-o did not replace: %q, %v", read("name"), err)
	}
	running, err := create("running", "", aCID, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer running.finish(broken, 0)
	if err := write("running", nil); err == nil || !strings.Contains(err.Error(), "running.nxquvyku.part") {
		t.Errorf("err = %v, want one that names running.nxquvyku.part", err)
	}

	// A file that appears meanwhile is somebody's.
	o, err := create("", "late", aCID, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("late", []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.finish(nil, 0); err == nil || read("late") != "theirs" {
		t.Errorf("wrote over a file that appeared: %q, %v", read("late"), err)
	}
}

// runGet is the command, in the current directory.
func runGet(t *testing.T, args ...string) (stderr string, code int) {
	t.Helper()
	var b bytes.Buffer
	code = run(t.Context(), append([]string{"get"}, args...), nil, io.Discard, &b)
	return b.String(), code
}

// Broken anywhere, a download goes on where it ended, and what comes of it is the file.
func TestGetResumes(t *testing.T) {
	content := make([]byte, 4<<20+99)
	_, _ = rand.Read(content)
	var asked []string
	l := stored(t, content, func(path string, answer []byte) []byte {
		if strings.HasSuffix(path, "/data") {
			asked = append(asked, fmt.Sprint(len(answer)>>20))
		}
		return answer
	})
	for _, have := range []int{1, 1<<20 - 1, 1 << 20, 3<<20 + 5, len(content)} {
		t.Chdir(t.TempDir())
		asked = nil
		write(t, partOf("a.bin", l), string(content[:have]), 0o600)
		stderr, code := runGet(t, l.URL())
		got, _ := os.ReadFile("a.bin")
		if code != 0 || !bytes.Equal(got, content) {
			t.Errorf("%d bytes were there: exit code %d, %d bytes, %s", have, code, len(got), stderr)
		}
		if want := fmt.Sprint((len(content) - have>>20<<20) >> 20); len(asked) != 1 || asked[0] != want && have < len(content) {
			t.Errorf("%d bytes were there: asked for %s MiB, want %s", have, asked, want)
		}
		if left, _ := filepath.Glob("*.part"); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// partOf is where a download of a link to a file is kept until it is whole.
func partOf(file string, l link.Link) string {
	c := l.CID.String()
	return file + "." + c[len(c)-8:] + ".part"
}

// What is there may not be this file's beginning after all: then the download begins anew, and says so.
func TestGetWrongPart(t *testing.T) {
	content := make([]byte, 2<<20)
	_, _ = rand.Read(content)
	l := stored(t, content, func(_ string, answer []byte) []byte { return answer })
	for name, tt := range map[string]struct {
		part []byte
		want string
	}{
		"other bytes":         {make([]byte, 1<<20+7), "what was there is not the beginning of this file: beginning anew\n"},
		"as long, other ones": {make([]byte, 2<<20), "what was there is not the beginning of this file: beginning anew\n"},
		"longer":              {append(bytes.Clone(content), 0), "what was there is longer than the file: beginning anew\n"},
	} {
		t.Chdir(t.TempDir())
		write(t, partOf("a.bin", l), string(tt.part), 0o600)
		stderr, code := runGet(t, l.URL())
		if got, _ := os.ReadFile("a.bin"); code != 0 || !bytes.Equal(got, content) {
			t.Errorf("%s: exit code %d, %d bytes, %s", name, code, len(got), stderr)
		}
		if !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: said %q, want %q in it", name, stderr, tt.want)
		}
		if left, _ := filepath.Glob("*.part"); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}

// Senders choose the names. What is there of another link's file of the same name is neither continued nor lost.
func TestGetSameNameOtherLink(t *testing.T) {
	straight := func(_ string, answer []byte) []byte { return answer }
	one, other := make([]byte, 2<<20), make([]byte, 3<<20)
	_, _ = rand.Read(one)
	_, _ = rand.Read(other)
	first, second := stored(t, one, straight), stored(t, other, straight)
	t.Chdir(t.TempDir())
	write(t, partOf("a.bin", first), string(one[:1<<20]), 0o600)
	if stderr, code := runGet(t, second.URL()); code != 0 || strings.Contains(stderr, "going on") || strings.Contains(stderr, "anew") {
		t.Errorf("the other link: exit code %d, %s", code, stderr)
	}
	if err := os.Rename("a.bin", "other.bin"); err != nil {
		t.Fatal(err)
	}
	if stderr, code := runGet(t, first.URL()); code != 0 || !strings.Contains(stderr, "going on after the first 1.05 MB") {
		t.Errorf("the first link: exit code %d, %s", code, stderr)
	}
	for name, want := range map[string][]byte{"a.bin": one, "other.bin": other} {
		if got, _ := os.ReadFile(name); !bytes.Equal(got, want) {
			t.Errorf("%s is not the file of its link", name)
		}
	}
}

// A connection that breaks is made again, and asked only for the rest. What cannot be got at all leaves what came, and says so.
func TestGetBreaksOff(t *testing.T) {
	content := make([]byte, 6<<20)
	_, _ = rand.Read(content)
	broken := 2
	l := stored(t, content, func(path string, answer []byte) []byte {
		if strings.HasSuffix(path, "/data") && broken > 0 {
			broken--
			return answer[:2<<20]
		}
		return answer
	})
	t.Chdir(t.TempDir())
	if stderr, code := runGet(t, l.URL()); code != 0 {
		t.Errorf("broken twice: exit code %d, %s", code, stderr)
	}
	if got, _ := os.ReadFile("a.bin"); !bytes.Equal(got, content) {
		t.Errorf("broken twice: got %d bytes", len(got))
	}

	t.Chdir(t.TempDir())
	var got bytes.Buffer
	broken = 100
	if _, err := (fetcher{pause: time.Millisecond}).fetch(t.Context(), l, &got); err == nil || !bytes.HasPrefix(content, got.Bytes()) {
		t.Errorf("broken for good: %d bytes, error %v", got.Len(), err)
	}
}

// A link may be withdrawn while its file is on its way. Then nothing can go on, and nothing is said to; what had come is gone too.
func TestGetGoneMeanwhile(t *testing.T) {
	content := make([]byte, 4<<20)
	_, _ = rand.Read(content)
	var withdraw func()
	l := stored(t, content, func(path string, answer []byte) []byte {
		if strings.HasSuffix(path, "/data") {
			withdraw()
			return answer[:min(len(answer), 2<<20)]
		}
		return answer
	})
	withdraw = func() { write(t, filepath.Join(dataDirs[l], "denied"), l.CID.String()+"\n", 0o600) }
	const want = "detach: the link no longer works: the file has expired or was withdrawn; ask the sender for it\n"
	t.Chdir(t.TempDir())
	for _, when := range []string{"meanwhile", "before"} {
		if stderr, code := runGet(t, l.URL()); code != exitFailed || stderr != want {
			t.Errorf("%s: exit code %d, said %q, want %q", when, code, stderr, want)
		}
		if left, _ := filepath.Glob("*"); len(left) > 0 {
			t.Errorf("%s: left %q", when, left)
		}
	}
}

// With no gateway that says so, the store or the file itself does.
func TestGetGoneFromTheStore(t *testing.T) {
	l := stored(t, []byte("content"), func(_ string, answer []byte) []byte { return answer })
	h := served(t, func(_ string, answer []byte) []byte { return answer })
	h.cfg.Keys.Retention = 1 // a nanosecond
	expiring, err := openApp(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer expiring.Close()
	batch := expiring.vault.Begin()
	expired, err := batch.Detach(t.Context(), "a.bin", "text/plain", strings.NewReader("content"))
	if err := errors.Join(err, batch.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dataDirs[l], "objects", l.CID.String()+".car")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for name, tt := range map[string]struct {
		dir  string
		link link.Link
		want string
	}{
		"expired": {h.cfg.DataDir, expired, "detach: the link no longer works: the file has expired or was withdrawn; ask the sender for it\n"},
		"gone":    {dataDirs[l], l, "detach: the file is not in this store: it has expired or was withdrawn, or never was there"},
	} {
		stderr, code := runGet(t, "--store", tt.dir, tt.link.URL())
		if code != exitFailed || !strings.HasPrefix(stderr, tt.want) || strings.Contains(stderr, "try again") {
			t.Errorf("%s: exit code %d, said %q, want %q", name, code, stderr, tt.want)
		}
		if left, _ := filepath.Glob("*"); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}

// With the data directory at hand, no gateway is asked; with the store alone, it is asked for the share.
func TestGetFromTheStore(t *testing.T) {
	content := make([]byte, 2<<20+1)
	_, _ = rand.Read(content)
	var asked []string
	l := stored(t, content, func(path string, answer []byte) []byte {
		asked = append(asked, path[strings.LastIndexByte(path, '/'):])
		return answer
	})
	dir := dataDirs[l]
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--store", dir}, "[]"},
		{[]string{"--store", filepath.Join(dir, "objects")}, "[/share]"},
		{[]string{"--store", filepath.Join(dir, "objects"), "--keys", filepath.Join(dir, "keys")}, "[]"},
		{[]string{"--keys", filepath.Join(dir, "keys")}, "[/meta.jwe /data]"},
	} {
		t.Chdir(t.TempDir())
		asked = nil
		stderr, code := runGet(t, append(tt.args, l.URL())...)
		if got, _ := os.ReadFile("a.bin"); code != 0 || !bytes.Equal(got, content) {
			t.Errorf("%q: exit code %d, %d bytes, %s", tt.args, code, len(got), stderr)
		}
		if fmt.Sprint(asked) != tt.want {
			t.Errorf("%q: the gateway was asked for %v, want %s", tt.args, asked, tt.want)
		}
	}
	for _, args := range [][]string{{"--store", "/nowhere"}, {"--keys", "/nowhere"}, {"--api", "nonsense"}, {"--store", dir, "--api", "/ip4/127.0.0.1/tcp/1"}} {
		if stderr, code := runGet(t, append(args, l.URL())...); code != 2 || !strings.Contains(stderr, args[0]) {
			t.Errorf("%q: exit code %d, %q, want 2 and the flag's name", args, code, stderr)
		}
	}
}
