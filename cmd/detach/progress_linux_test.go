package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/progress"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// On a terminal, get draws one line in place, as wide as the terminal, and removes it at the end. A
// file's name cannot write anything else there.
func TestProgressIsOneLineOfTheTerminal(t *testing.T) {
	file := fetchtest.File{Name: "in\x1b[2J\u202evoice\r\x9b.bin", Type: "application/pdf", Content: fetchtest.Random(4 << 20)}
	l := fetchtest.Store(t, fetchtest.New(t).Vault, file)[0]
	l.Base = between(t, l.Base, func(resp *http.Response, p []byte) (int, error) {
		n, err := resp.Body.Read(p)
		time.Sleep(time.Duration(n) * time.Second / (2 << 20)) // 2 MiB a second
		return n, err
	})
	screen, tty := openTerminal(t, 100)
	get := startGet(t, tty, l.URL())
	must.Succeed(t, tty.Close()) // the screen ends with the process
	var shown bytes.Buffer
	resized := false
	for buf := make([]byte, 4096); ; {
		n, err := screen.Read(buf)
		shown.Write(buf[:n])
		if !resized && strings.Contains(shown.String(), "] ") {
			resize(t, screen, 30)
			resized = true
		}
		if err != nil { // EIO: no process has the terminal open
			break
		}
	}
	if err := <-get.ended; err != nil {
		t.Fatalf("%v: %q", err, shown.String())
	}
	drawn := regexp.MustCompile(`^\r(\[#* *\] )?[\d.]+ ([KM]B|bytes) of 4\.2 MB(, [\d.]+ ([KM]B|bytes)/s(, [\dms]+ left)?)?\x1b\[K`)
	text, lines, wide, slim := shown.String(), 0, 0, 0
	for ; drawn.MatchString(text); lines++ {
		line := drawn.FindString(text)
		text = text[len(line):]
		switch width := len(line) - len("\r\x1b[K"); {
		case width > 99:
			t.Errorf("a line of %d columns: %q", width, line)
		case strings.Contains(line, "] "):
			wide++
		case width < 30:
			slim++
		}
	}
	if wide == 0 || slim == 0 {
		t.Errorf("%d lines: %d wide ones, %d narrow ones, want some of both: %q", lines, wide, slim, shown.String())
	}
	if !regexp.MustCompile(`^\r\x1b\[Kin\[2Jvoice �\.bin: 4\.2 MB, checked against SHA-256 [0-9a-f]{64}\r\n$`).MatchString(text) {
		t.Errorf("after them comes %q", text)
	}

	// get draws nothing in a file.
	cmd := exec.CommandContext(t.Context(), "detach", "get", "-o", "a\x1b[2Jb", l.URL())
	cmd.Dir = t.TempDir()
	said, err := os.Create(filepath.Join(cmd.Dir, "said"))
	must.Succeed(t, err)
	defer said.Close()
	cmd.Stderr = said
	err = cmd.Run()
	got, _ := os.ReadFile(said.Name())
	if err != nil || !regexp.MustCompile("^a\ufffd\\[2Jb: 4\\.2 MB, checked [^\r\x1b]*\n$").Match(got) {
		t.Errorf("without a terminal: %v, %q", err, got)
	}
}

// A terminal that does not know its width counts as 80 columns wide: a bar fits.
func TestProgressFitsTheTerminal(t *testing.T) {
	for columns, want := range map[uint16]bool{0: true, 44: false} {
		screen, tty := openTerminal(t, columns)
		_, err := progress.New(tty, 0, 10).Write(make([]byte, 5))
		must.Succeed(t, err)
		drawn := make([]byte, 200)
		n, err := screen.Read(drawn)
		if got := strings.Contains(string(drawn[:n]), "] "); err != nil || got != want {
			t.Errorf("%d columns: drawn %q, %v, want a bar: %v", columns, drawn[:n], err, want)
		}
	}
}

// openTerminal opens a terminal: what is written to tty can be read from screen (pty(7)).
func openTerminal(t *testing.T, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	must.Succeed(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must.Succeed(t, err)
	t.Cleanup(func() { tty.Close() })
	resize(t, screen, columns)
	return screen, tty
}

func resize(t *testing.T, screen *os.File, columns uint16) {
	t.Helper()
	must.Succeed(t, unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
}

// flow stops (TCOOFF) or continues (TCOON) the terminal, as Ctrl-S and Ctrl-Q do: writers wait.
func flow(t *testing.T, tty *os.File, action int) {
	t.Helper()
	must.Succeed(t, unix.IoctlSetInt(int(tty.Fd()), unix.TCXONC, action))
}
