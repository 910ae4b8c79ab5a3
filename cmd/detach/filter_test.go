package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func filterConfig(t *testing.T) (file, dataDir string) {
	t.Helper()
	dataDir = filepath.Join(t.TempDir(), "data")
	file = filepath.Join(t.TempDir(), "detach.toml")
	text := "data_dir = \"" + dataDir + "\"\n[gateway]\nurl = \"https://files.example.org\"\n"
	must.Succeed(t, os.WriteFile(file, []byte(text), 0o600))
	return file, dataDir
}

// Exit code 1 means that nothing was written, even of a mail without attachments.
func TestFilterWritesNothingOfHalfAMail(t *testing.T) {
	file, _ := filterConfig(t)
	half := "Subject: x\r\n\r\n" + strings.Repeat("a line of text\r\n", 100_000)
	stdin := io.MultiReader(strings.NewReader(half), iotest.ErrReader(errors.New("broken pipe")))
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"filter", "--config", file}, stdin, &stdout, &stderr); code != 1 || stdout.Len() > 0 {
		t.Errorf("exit code %d with %d bytes written, want 1 with none\n%s", code, stdout.Len(), &stderr)
	}
}

// A mail that could not be written leaves no object behind.
func TestFilterRemovesObjectsOfAnUnwrittenMail(t *testing.T) {
	file, dataDir := filterConfig(t)
	mail := "Content-Type: application/pdf\r\n\r\n" + strings.Repeat("x", 100_000)
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"filter", "--config", file}, strings.NewReader(mail), brokenWriter{}, &stderr); code != 1 {
		t.Fatalf("exit code %d, want 1\n%s", code, &stderr)
	}
	objects, err := os.ReadDir(filepath.Join(dataDir, "objects"))
	if err != nil || len(objects) > 0 {
		t.Errorf("%d objects left (%v), want none", len(objects), err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
