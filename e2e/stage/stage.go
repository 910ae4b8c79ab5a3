// Package stage sets up the end-to-end tests: the real binary between real servers, with everything
// in between under the test's control.
//
// Most tests of mail have the same set-up (Chain). A Postfix listens as the front, as a provider's
// port 25 or 587 does, and gives its mail to detach (smtpd_proxy_filter). Detach gives the
// rewritten mail to the listener behind, whose Postfix queues it and delivers to a mailbox of ours,
// which keeps every byte. A third listener does the same with nothing in between: its mails are the
// measure for "byte for byte". Python's email package, which shares no code with Detach, decodes
// the attachments.
//
// Package e2e/servers starts the servers of others. The tests are in the folders beside this one;
// the TestMain of each calls Main. The programs e2e/chaos and e2e/bench use the stage too
// (Perform).
package stage

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

var binary string

// Binary returns the path of the detach that Build has built.
func Binary() string { return binary }

// Build builds the detach that all tests run, into dir.
func Build(ctx context.Context, dir string, flags ...string) error {
	return build(ctx, dir, nil, flags)
}

func build(ctx context.Context, dir string, tags, flags []string) error {
	binary = filepath.Join(dir, "detach")
	if HasPDFJS() {
		tags = append(tags, "pdfjs")
	}
	args := append([]string{"build", "-o", binary, "-tags=" + strings.Join(tags, ",")}, flags...)
	args = append(args, "github.com/nkirchhoffer/detach-mta/cmd/detach")
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// HasPDFJS reports whether PDF.js is installed. If it is, the binary embeds it.
func HasPDFJS() bool {
	_, err := os.Stat(Path("gateway/viewer/pdfjs/node_modules"))
	return err == nil
}

// Main is the TestMain of a folder of tests: it builds the binary, runs the tests, and then
// searches all logs for secrets. A folder names the kinds of secrets that its tests must have used,
// so that the search is never empty.
func Main(m *testing.M, kinds ...Kind) { mainWith(m, nil, kinds) }

// MainWithClock is Main with a binary whose clock a [Clock] moves.
func MainWithClock(m *testing.M, kinds ...Kind) { mainWith(m, []string{"testclock"}, kinds) }

func mainWith(m *testing.M, tags []string, kinds []Kind) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	os.Exit(run(m, tags, kinds))
}

func run(m *testing.M, tags []string, kinds []Kind) int {
	dir, err := os.MkdirTemp("", "detach-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(context.Background(), dir, tags, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" {
		kinds = nil
	}
	for _, found := range noted.search(kinds) {
		fmt.Println(found)
		code = 1
	}
	return code
}

// Path returns the path of a file of this tree.
func Path(elements ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(file), "..", ".."}, elements...)...)
}

// Artifact returns the path for a file that outlives the run, such as a screenshot.
func Artifact(t servers.T, name string) string {
	t.Helper()
	path := Path("e2e", "artefacts", name)
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	return path
}

// Must ends the test at an error that the test is not about.
var Must = servers.Must

// ReadFile returns a file's content.
func ReadFile(t servers.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	Must(t, err)
	return string(text)
}

// Message wraps a mail for its sender.
func Message(mail string) servers.Message { return Stream(strings.NewReader(mail)) }

// Stream is Message for a mail that is read while it is sent. The addresses are noted as secrets.
func Stream(mail io.Reader) servers.Message {
	KeepSecret(AddressSecret, Recipient)
	KeepSecret(AddressSecret, Sender)
	return servers.Message{From: Sender, To: Recipient, Args: "BODY=8BITMIME", Data: mail}
}

// Begin returns a client that may send its message now.
func Begin(t servers.T, addr string) *servers.Client {
	t.Helper()
	c := servers.Connect(t, addr)
	if reply, err := c.Begin(Message("")); err != nil || reply[0] != '3' {
		t.Errorf("DATA got %q, %v", reply, err)
	}
	return c
}

// Gets sends a mail, and checks that the reply to it begins with a code.
func Gets(t servers.T, addr, code, mail string) {
	t.Helper()
	if reply := servers.Send(t, addr, "", Message(mail)); !strings.HasPrefix(reply, code+" ") {
		t.Errorf("a mail of %d bytes got %q, want %s", len(mail), reply, code)
	}
}
