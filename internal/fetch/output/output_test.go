package output

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var aCID = cid.MustParse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must.Succeed(t, os.WriteFile(path, []byte(text), mode))
}

func read(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

// download creates an output, writes "new" to it, and finishes it.
func download(option string, outcome error) error {
	o, err := Create(option, "name", aCID, io.Discard)
	if err != nil {
		return err
	}
	_, err = io.WriteString(o, "new")
	return o.Finish(errors.Join(err, outcome), 0)
}

// A file gets its name only when it is whole, and only if no other file has the name.
func TestOnlyAWholeFileGetsItsName(t *testing.T) {
	t.Chdir(t.TempDir())
	broken := errors.New("broken")
	if err := download("", broken); !errors.Is(err, broken) {
		t.Errorf("err = %v, want what broke", err)
	}
	if left, _ := filepath.Glob("*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := download("", nil); err != nil || read("name") != "new" {
		t.Errorf("wrote %q, %v", read("name"), err)
	}
	write(t, "name", "old", 0o600)
	if err := download("", nil); err == nil || read("name") != "old" {
		t.Errorf("wrote over another file: %q, %v", read("name"), err)
	}
	if err := download("name", broken); err == nil || read("name") != "old" {
		t.Errorf("a broken download replaced a file: %q, %v", read("name"), err)
	}
	if err := download("name", nil); err != nil || read("name") != "new" {
		t.Errorf("-o did not replace: %q, %v", read("name"), err)
	}

	// A file that appears during the download belongs to another program.
	o, err := Create("", "late", aCID, io.Discard)
	must.Succeed(t, err)
	write(t, "late", "theirs", 0o600)
	if err := o.Finish(nil, 0); err == nil || read("late") != "theirs" {
		t.Errorf("wrote over a file that appeared: %q, %v", read("late"), err)
	}
}
