package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/fetch/output"
	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// runGet runs the command in the current directory.
func runGet(t *testing.T, args ...string) (stderr string, code int) {
	t.Helper()
	var b bytes.Buffer
	code = run(t.Context(), append([]string{"get"}, args...), nil, io.Discard, &b)
	return b.String(), code
}

// wantGet runs the command, and wants content in a.bin and no part file.
func wantGet(t *testing.T, what string, content []byte, args ...string) (stderr string) {
	t.Helper()
	stderr, code := runGet(t, args...)
	if code != 0 {
		t.Errorf("%s: exit code %d, %s", what, code, stderr)
	}
	wantFile(t, what, ".", content)
	return stderr
}

// wantFile wants content in a.bin in dir, and no part file.
func wantFile(t *testing.T, what, dir string, content []byte) {
	t.Helper()
	if got, _ := os.ReadFile(filepath.Join(dir, "a.bin")); !bytes.Equal(got, content) {
		t.Errorf("%s: got another file, of %d bytes", what, len(got))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("%s: left %q", what, left)
	}
}

// partOf returns the name of the part file of a.bin.
func partOf(l link.Link) string { return "a.bin" + output.PartSuffix(l.CID) }

// A download that broke off anywhere continues there.
func TestGetResumes(t *testing.T) {
	site, content := fetchtest.New(t), fetchtest.Random(4<<20+99)
	var asked []string
	site.Spoil = func(path string, answer []byte) []byte {
		if strings.HasSuffix(path, "/data") {
			asked = append(asked, fmt.Sprint(len(answer)>>20))
		}
		return answer
	}
	l := site.Store(t, content)
	for _, have := range []int{1, 1<<20 - 1, 1 << 20, 3<<20 + 5, len(content)} {
		t.Chdir(t.TempDir())
		asked = nil
		write(t, partOf(l), string(content[:have]), 0o600)
		what := fmt.Sprintf("%d bytes were there", have)
		wantGet(t, what, content, l.URL())
		if want := fmt.Sprint((len(content) - have>>20<<20) >> 20); len(asked) != 1 || asked[0] != want && have < len(content) {
			t.Errorf("%s: asked for %s MiB, want %s", what, asked, want)
		}
	}
}

// A part file may hold another file. Then the download starts again, and says so.
func TestGetReplacesAPartialFileOfAnotherFile(t *testing.T) {
	content := fetchtest.Random(2 << 20)
	l := fetchtest.New(t).Store(t, content)
	const other = "the partial file is not the beginning of this file: starting again from the beginning\n"
	for name, tt := range map[string]struct {
		part []byte
		want string
	}{
		"other bytes":           {make([]byte, 1<<20+7), other},
		"as long, other bytes":  {make([]byte, 2<<20), other},
		"longer than this file": {append(bytes.Clone(content), 0), "the partial file is longer than this file: starting again from the beginning\n"},
	} {
		t.Chdir(t.TempDir())
		write(t, partOf(l), string(tt.part), 0o600)
		if stderr := wantGet(t, name, content, l.URL()); !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: said %q, want %q in it", name, stderr, tt.want)
		}
	}
}

// Senders choose the names: a download keeps another link's part file of the same name.
func TestGetKeepsThePartialFileOfAnotherLink(t *testing.T) {
	site, one, other := fetchtest.New(t), fetchtest.Random(2<<20), fetchtest.Random(3<<20)
	first, second := site.Store(t, one), site.Store(t, other)
	t.Chdir(t.TempDir())
	write(t, partOf(first), string(one[:1<<20]), 0o600)
	if stderr, code := runGet(t, second.URL()); code != 0 || strings.Contains(stderr, "resuming") || strings.Contains(stderr, "starting again") {
		t.Errorf("the other link: exit code %d, %s", code, stderr)
	}
	if got, _ := os.ReadFile("a.bin"); !bytes.Equal(got, other) {
		t.Error("the other link gave another file")
	}
	must.Succeed(t, os.Remove("a.bin"))
	if stderr := wantGet(t, "the first link", one, first.URL()); !strings.Contains(stderr, "resuming after the first 1 MB") {
		t.Errorf("the first link: said %q", stderr)
	}
}

const gone = "detach: the link no longer works: the file has expired or was withdrawn; ask the sender for it\n"

// wantFailure runs the command, and wants an error that begins with want, and no file.
func wantFailure(t *testing.T, what, want string, args ...string) {
	t.Helper()
	if stderr, code := runGet(t, args...); code != exitFailed || !strings.HasPrefix(stderr, want) || strings.Contains(stderr, "try again") {
		t.Errorf("%s: exit code %d, said %q, want %q", what, code, stderr, want)
	}
	if left, _ := filepath.Glob("*"); len(left) > 0 {
		t.Errorf("%s: left %q", what, left)
	}
}

// A link may be withdrawn during the download. A next attempt would fail, so no part file stays.
func TestGetLeavesNothingOfAWithdrawnFile(t *testing.T) {
	site := fetchtest.New(t)
	l := site.Store(t, fetchtest.Random(4<<20))
	site.Spoil = func(path string, answer []byte) []byte {
		if strings.HasSuffix(path, "/data") {
			write(t, filepath.Join(site.Dir, "denied"), l.CID.String()+"\n", 0o600)
			return answer[:min(len(answer), 2<<20)]
		}
		return answer
	}
	t.Chdir(t.TempDir())
	for _, when := range []string{"meanwhile", "before"} {
		wantFailure(t, when, gone, l.URL())
	}
}

// Without a gateway, the store or the file itself tells that the file is gone.
func TestGetFromTheStoreSaysThatAFileIsGone(t *testing.T) {
	site := fetchtest.New(t)
	file := fetchtest.File{Name: "a.bin", Type: "text/plain", Content: []byte("content")}
	expired := site.StoreEnded(t, file)
	removed := site.Store(t, file.Content)
	must.Succeed(t, os.Remove(filepath.Join(site.Dir, "objects", removed.CID.String()+".car")))
	t.Chdir(t.TempDir())
	wantFailure(t, "expired", gone, "--store", site.Dir, expired.URL())
	wantFailure(t, "removed", "detach: the file is not in this store: it has expired or was withdrawn, or never was there",
		"--store", site.Dir, removed.URL())
}

// A link that was changed on its way is called that, before anything is written.
func TestGetSaysThatALinkIsWrong(t *testing.T) {
	site := fetchtest.New(t)
	l, other := site.Store(t, []byte("content")), site.Store(t, []byte("other"))
	l.Fragment = other.Fragment
	t.Chdir(t.TempDir())
	for _, args := range [][]string{nil, {"--store", site.Dir}, {"--store", filepath.Join(site.Dir, "objects")}} {
		wantFailure(t, fmt.Sprint(args), "detach: the link does not open this file: it was cut short or changed on its way", append(args, l.URL())...)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("%d files were written, %v", len(left), err)
	}
}

// With a data directory, get asks no gateway; with the store alone, it asks for the share.
func TestGetAsksTheGatewayForTheRest(t *testing.T) {
	site, content := fetchtest.New(t), fetchtest.Random(2<<20+1)
	var asked []string
	site.Spoil = func(path string, answer []byte) []byte {
		asked = append(asked, path[strings.LastIndexByte(path, '/'):])
		return answer
	}
	l := site.Store(t, content)
	objects, keys := filepath.Join(site.Dir, "objects"), filepath.Join(site.Dir, "keys")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--store", site.Dir}, "[]"},
		{[]string{"--store", objects}, "[/share]"},
		{[]string{"--store", objects, "--keys", keys}, "[]"},
		{[]string{"--keys", keys}, "[/meta.jwe /origin /data]"},
		{nil, "[/meta.jwe /origin /share /data]"},
	} {
		t.Chdir(t.TempDir())
		asked = nil
		wantGet(t, fmt.Sprint(tt.args), content, append(tt.args, l.URL())...)
		if fmt.Sprint(asked) != tt.want {
			t.Errorf("%q: the gateway was asked for %v, want %s", tt.args, asked, tt.want)
		}
	}
	for _, args := range [][]string{{"--store", "missing"}, {"--keys", "missing"}, {"--api", "nonsense"}, {"--store", site.Dir, "--api", "/ip4/127.0.0.1/tcp/1"}} {
		if stderr, code := runGet(t, append(args, l.URL())...); code != exitUsage || !strings.Contains(stderr, args[0]) {
			t.Errorf("%q: exit code %d, %q, want %d and the flag's name", args, code, stderr, exitUsage)
		}
		if _, err := os.Lstat("missing"); err == nil {
			t.Errorf("%q: created it", args)
		}
	}
}

// If one link is downloaded several times together, one download brings the file. The others say
// that it does, or has done so.
func TestGetOfOneLinkManyTimesTogether(t *testing.T) {
	content := fetchtest.Random(1<<20 + 1)
	l := fetchtest.New(t).Store(t, content)
	for range 10 {
		t.Chdir(t.TempDir())
		failed := make(chan string, 6)
		var running sync.WaitGroup
		for range cap(failed) {
			running.Go(func() {
				if stderr, code := runGet(t, l.URL()); code != 0 {
					failed <- stderr
				}
			})
		}
		running.Wait()
		close(failed)
		if len(failed) == cap(failed) {
			t.Error("all failed")
		}
		for stderr := range failed {
			if !strings.Contains(stderr, "is being downloaded by another process") && !strings.Contains(stderr, "exists already") {
				t.Errorf("one failed with %q", stderr)
			}
		}
		wantFile(t, "afterwards", ".", content)
	}
}

// storeList stores three files and their file list.
func storeList(t *testing.T, site *fetchtest.Site) (list link.Link, files []fetchtest.File, links []link.Link) {
	t.Helper()
	for i, name := range []string{"a.pdf", "../notes.txt", "a.pdf"} {
		files = append(files, fetchtest.File{Name: name, Type: "application/pdf", Content: fetchtest.Random(i*700_000 + 1)})
	}
	links = fetchtest.Store(t, site.Vault, files...)
	var entries []filelist.File
	for i, f := range files {
		entries = append(entries, filelist.File{Link: links[i], Name: f.Name, Size: int64(len(f.Content)), CRC32: crc32.ChecksumIEEE(f.Content)})
	}
	text, err := filelist.Marshal(entries)
	must.Succeed(t, err)
	list = fetchtest.Store(t, site.Vault, fetchtest.File{Name: filelist.Name, Type: filelist.Type, Content: text})[0]
	list.All = true
	return list, files, links
}

// The link to a file list gives a ZIP of the files that can still be opened.
func TestGetZIPOfAFileList(t *testing.T) {
	site := fetchtest.New(t)
	list, files, links := storeList(t, site)
	t.Chdir(t.TempDir())
	wantZIP := func(said, names string, files []fetchtest.File, args ...string) {
		t.Helper()
		stderr, code := runGet(t, append(args, list.URL())...)
		if want := "files.zip: " + said + ", each checked against its SHA-256\n"; code != 0 || stderr != want {
			t.Errorf("exit code %d, said %q, want %q", code, stderr, want)
		}
		if got := unzipped(t, files); got != names {
			t.Errorf("got %s, want %s", got, names)
		}
	}
	wantZIP("3 files of 3", "[a.pdf notes.txt a (2).pdf]", files)
	wantZIP("3 files of 3", "[a.pdf notes.txt a (2).pdf]", files, "--store", site.Dir)
	write(t, filepath.Join(site.Dir, "denied"), links[0].CID.String()+"\n", 0o600)
	wantZIP("2 files of 3", "[notes.txt a.pdf]", files[1:])
}

// unzipped compares the content of files.zip, removes it, and returns the names.
func unzipped(t *testing.T, want []fetchtest.File) string {
	t.Helper()
	z, err := zip.OpenReader("files.zip")
	must.Succeed(t, err)
	defer os.Remove("files.zip")
	defer z.Close()
	var names []string
	for i, f := range z.File {
		r, err := f.Open()
		must.Succeed(t, err)
		if got, err := io.ReadAll(r); err != nil || i >= len(want) || !bytes.Equal(got, want[i].Content) {
			t.Errorf("file %d is another: %v", i, err)
		}
		names = append(names, f.Name)
	}
	return fmt.Sprint(names)
}

func TestGetMakesNoZIPOfADamagedFile(t *testing.T) {
	site := fetchtest.New(t)
	list, _, links := storeList(t, site)
	site.Spoil = func(path string, answer []byte) []byte {
		if path == "/ipfs/"+links[2].CID.String()+"/data" {
			answer[len(answer)-1000] ^= 1
		}
		return answer
	}
	t.Chdir(t.TempDir())
	if _, code := runGet(t, list.URL()); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if left, _ := filepath.Glob("*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// An error may quote what strangers wrote, for example the names in a certificate. It must not move
// the terminal's cursor or turn a line.
func TestErrorsMoveNoCursor(t *testing.T) {
	var b strings.Builder
	complain(&b, errors.New("valid for \x1b]0;owned\a, not \u202egro.elpmaxe\r\x9b2J\xff é\nnext"))
	want := "detach: valid for \ufffd]0;owned\ufffd, not \ufffdgro.elpmaxe\ufffd\ufffd2J\ufffd é\ndetach: next\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
	b.Reset()
	complain(&b, errors.New(strings.Repeat("é", maxLine)+"cut"))
	if want := "detach: " + strings.Repeat("é", maxLine) + "…\n"; b.String() != want {
		t.Errorf("a long line: got %d bytes, want %d", b.Len(), len(want))
	}
}
