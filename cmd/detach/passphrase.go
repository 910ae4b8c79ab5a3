package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// newPassphrase reads a passphrase from a file, or asks for it twice.
func newPassphrase(e *env, file string) (string, error) {
	if file != "" {
		return passphraseIn(file)
	}
	first, err := ask(e.ctx, "Passphrase for the export: ")
	if err != nil {
		return "", err
	}
	second, err := ask(e.ctx, "The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passphrases differ: nothing was exported")
	}
	return first, nil
}

// knownPassphrase reads a passphrase from a file, or asks for it once.
func knownPassphrase(e *env, file string) (string, error) {
	if file != "" {
		return passphraseIn(file)
	}
	return ask(e.ctx, "Passphrase of the export: ")
}

func passphraseIn(file string) (string, error) {
	passphrase, err := firstLine(file)
	if err != nil {
		return "", fmt.Errorf("--passphrase-file: %w", err)
	}
	return passphrase, nil
}

// ask reads a line from the terminal without showing it.
func ask(ctx context.Context, prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errors.New("there is no terminal to ask for the passphrase on: give --passphrase-file FILE, such as /dev/fd/3")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(tty, prompt); err != nil {
		return "", err
	}
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		_, err := io.WriteString(tty, "\n")
		return string(a.line), errors.Join(a.err, err)
	case <-ctx.Done():
		// The read goes on until the process ends, but the terminal shows again what is typed.
		_, _ = io.WriteString(tty, "\n")
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
