package main

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// storedAll are three files and the list of them behind a real gateway, whose answers spoil may change.
func storedAll(t *testing.T, spoil func(path string, answer []byte) []byte) (h *app, all link.Link, files []filelist.File, contents [][]byte) {
	t.Helper()
	h = served(t, spoil)
	batch := h.vault.Begin()
	for i, name := range []string{"a.pdf", "../notes.txt", "a.pdf"} {
		content := make([]byte, i*700_000+1)
		_, _ = rand.Read(content)
		l, err := batch.Detach(t.Context(), name, "application/pdf", bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, filelist.File{Link: l, Name: name, Size: int64(len(content)), CRC32: crc32.ChecksumIEEE(content)})
		contents = append(contents, content)
	}
	list, err := filelist.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	if all, err = batch.Detach(t.Context(), filelist.Name, filelist.Type, bytes.NewReader(list)); err != nil {
		t.Fatal(err)
	}
	if err := batch.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.All = true
	return h, all, files, contents
}

// The link to all gives a ZIP of what is still there.
func TestGetAll(t *testing.T) {
	t.Chdir(t.TempDir())
	h, all, files, contents := storedAll(t, func(_ string, answer []byte) []byte { return answer })
	get := func() (string, error) {
		var stderr strings.Builder
		err := (&getCmd{Link: all.URL()}).Run(&env{ctx: t.Context(), stdout: io.Discard, stderr: &stderr})
		return stderr.String(), err
	}
	said, err := get()
	if err != nil || said != "files.zip: 3 files of 3, each checked against its SHA-256\n" {
		t.Errorf("said %q, %v", said, err)
	}
	if names := unzipped(t, contents[0], contents[1], contents[2]); names != "[a.pdf notes.txt a (2).pdf]" {
		t.Errorf("got %s", names)
	}
	if err := (&getCmd{Link: all.URL(), Store: h.cfg.DataDir}).Run(&env{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}); err != nil {
		t.Errorf("from the store: %v", err)
	}
	unzipped(t, contents...)
	denied := filepath.Join(h.cfg.DataDir, "denied")
	if err := os.WriteFile(denied, []byte(files[0].Link.CID.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err = get()
	if err != nil || said != "files.zip: 2 files of 3, each checked against its SHA-256\n" {
		t.Errorf("with one revoked: said %q, %v", said, err)
	}
	if names := unzipped(t, contents[1], contents[2]); names != "[notes.txt a.pdf]" {
		t.Errorf("with one revoked: got %s", names)
	}
}

// unzipped compares what is in files.zip, removes that, and returns the names.
func unzipped(t *testing.T, want ...[]byte) string {
	t.Helper()
	z, err := zip.OpenReader("files.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove("files.zip")
	defer z.Close()
	var names []string
	for i, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || i >= len(want) || !bytes.Equal(got, want[i]) {
			t.Errorf("file %d is another: %v", i, err)
		}
		names = append(names, f.Name)
	}
	return fmt.Sprint(names)
}

// Of a file that is damaged at the gateway no ZIP comes.
func TestGetAllTrustsNoGateway(t *testing.T) {
	t.Chdir(t.TempDir())
	var damaged string
	_, all, files, _ := storedAll(t, func(path string, answer []byte) []byte {
		if damaged != "" && strings.HasPrefix(path, "/ipfs/"+damaged) {
			answer = bytes.Clone(answer)
			answer[len(answer)-1000] ^= 1
		}
		return answer
	})
	damaged = files[2].Link.CID.String()
	if err := (&getCmd{Link: all.URL()}).Run(&env{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}); err == nil {
		t.Error("no error")
	}
	if left, _ := filepath.Glob("*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
