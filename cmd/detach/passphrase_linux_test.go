package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// typed runs detach with a terminal of its own, types an answer at each prompt, and returns what
// the terminal showed.
func typed(t *testing.T, args []string, answers ...string) (shown string, err error) {
	t.Helper()
	screen, tty := openTerminal(t, 80)
	cmd := exec.CommandContext(t.Context(), "detach", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // the terminal is descriptor 0
	must.Succeed(t, cmd.Start())
	must.Succeed(t, tty.Close())
	var text bytes.Buffer
	for buf := make([]byte, 4096); ; {
		n, readErr := screen.Read(buf)
		text.Write(buf[:n])
		// The prompt ends with a colon, and only then is the echo off: without a wait, the terminal
		// would show what is typed too early.
		if len(answers) > 0 && strings.HasSuffix(text.String(), ": ") && !echoes(t, screen) {
			_, err := screen.WriteString(answers[0] + "\n")
			must.Succeed(t, err)
			answers = answers[1:]
		}
		if readErr != nil { // EIO: the process has ended
			return text.String(), cmd.Wait()
		}
	}
}

// echoes waits for a while until the terminal does not show what is typed.
func echoes(t *testing.T, screen *os.File) bool {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
		state, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		must.Succeed(t, err)
		if state.Lflag&unix.ECHO == 0 {
			return false
		}
	}
	return true
}

// The passphrase of an export is asked twice, that of an import once, and neither is shown.
func TestPassphraseIsAskedOnTheTerminal(t *testing.T) {
	dir := t.TempDir()
	config, file := filepath.Join(dir, "detach.toml"), filepath.Join(dir, "keys.age")
	write(t, config, "data_dir = \""+dir+"/data\"\n[gateway]\nurl = \"https://files.example.org\"\n", 0o600)
	keys, err := keyring.Open(filepath.Join(dir, "data", "keys"))
	must.Succeed(t, err)
	epoch, err := keys.Writer("2026-11")
	must.Succeed(t, err)
	export := []string{"keys", "export", "--config", config, "--passphrase", "-o", file}

	const phrase = "correct horse battery"
	shown, err := typed(t, export, phrase, "correct horse bakery")
	if err == nil || !strings.Contains(shown, "the two passphrases differ") {
		t.Errorf("two that differ: %v, %q", err, shown)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the export of passphrases that differ: %v", err)
	}
	shown, err = typed(t, export, phrase, phrase)
	if err != nil || strings.Contains(shown, "correct") || !strings.Contains(shown, "exported 1 epoch") {
		t.Fatalf("%v, %q", err, shown)
	}

	must.Succeed(t, os.RemoveAll(filepath.Join(dir, "data", "keys")))
	shown, err = typed(t, []string{"keys", "import", "--config", config, file}, phrase)
	if err != nil || strings.Contains(shown, "correct") || !strings.Contains(shown, "imported 1 new epoch") {
		t.Fatalf("%v, %q", err, shown)
	}
	keys, err = keyring.Read(filepath.Join(dir, "data", "keys"))
	if err == nil {
		err = keys.Check(epoch)
	}
	if err != nil {
		t.Error(err)
	}
}

// After Ctrl-C at the prompt, the terminal shows again what is typed.
func TestInterruptedPromptLeavesTheTerminalAsItWas(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "detach.toml")
	write(t, config, "data_dir = \""+dir+"/data\"\n[gateway]\nurl = \"https://files.example.org\"\n", 0o600)
	screen, tty := openTerminal(t, 80)
	cmd := exec.CommandContext(t.Context(), "detach", "keys", "export", "--config", config, "--passphrase", "-o", filepath.Join(dir, "x"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must.Succeed(t, cmd.Start())
	if echoes(t, screen) {
		t.Fatal("there is no prompt")
	}
	_, err := screen.WriteString("\x03")
	must.Succeed(t, err)
	if err := cmd.Wait(); err == nil {
		t.Error("no error")
	}
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	must.Succeed(t, err)
	if state.Lflag&unix.ECHO == 0 {
		t.Error("the terminal does not show what is typed")
	}
}
