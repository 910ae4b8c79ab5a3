// Command detach moves mail attachments, encrypted, into IPFS, and leaves links in the mail.
//
// Each command is one file here, which parses its flags, calls the packages below, and prints.
// app.go opens everything that a configuration names, and listen.go opens the addresses. Exit
// codes: 0 done, 1 failed, 2 wrong usage or configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if err := guardMemory(); err != nil {
		os.Exit(complain(os.Stderr, fmt.Errorf("keep the memory from core dumps and debuggers: %w", err)))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

type commands struct {
	Serve   serveCmd   `cmd:"" help:"Run the proxy, the gateway or both, as the configuration says."`
	Demo    demoCmd    `cmd:"" help:"Show everything on this machine: a sample mail, a mailbox in the browser, a link to click."`
	Filter  filterCmd  `cmd:"" help:"Rewrite one message, from standard input to standard output."`
	Restore restoreCmd `cmd:"" help:"Turn a rewritten message on standard input back into the original, byte for byte."`
	Revoke  revokeCmd  `cmd:"" help:"Take files back: no link opens them any more."`
	List    listCmd    `cmd:"" help:"List what is stored."`
	Stat    statCmd    `cmd:"" help:"Count what is stored: by age, size, kind and end."`
	Get     getCmd     `cmd:"" help:"Fetch, verify and decrypt the file behind a link."`
	Keys    keysCmd    `cmd:"" help:"Carry what opens the links to another machine, or to a safe place."`
	Check   checkCmd   `cmd:"" help:"Try everything that the configuration names, and say what to fix."`
	Sweep   sweepCmd   `cmd:"" help:"Remove what has ended: keys whose day is over, files that were revoked."`
	Extend  extendCmd  `cmd:"" help:"Move the end of files to a later day."`
	Migrate migrateCmd `cmd:"" help:"Copy all stored objects into another store, while mail flows."`
	Fsck    fsckCmd    `cmd:"" help:"Compare the keyring, the ledger and the store, and repair what cannot do harm."`
	Version versionCmd `cmd:"" help:"Print what this binary was built from."`
}

// env is a command's surroundings in the process.
type env struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	log            *slog.Logger
}

// usageError is an error that the user can correct in the command line or the configuration: exit
// 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	helped := false
	var c commands
	parser, err := kong.New(&c,
		kong.Name("detach"),
		kong.Description("Detach moves mail attachments, encrypted, into IPFS, and leaves links in the mail."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), // otherwise --help would end the process
	)
	if err != nil {
		return complain(stderr, err)
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		args = []string{"version"}
	}
	command, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		return complain(stderr, usageError{fmt.Errorf("%w (detach --help shows the usage)", err)})
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	return complain(stderr, command.Run(&env{ctx, stdin, stdout, stderr, slog.New(slog.NewTextHandler(stderr, nil))}))
}

// complain prints an error and returns the exit code. It is the only place that does.
func complain(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "detach: %s\n", plain(line))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// maxLine bounds a line that a command prints, in characters. A line holds a path or a reason and
// what to do about it; only strangers write longer ones.
const maxLine = 2000

// plain returns s as one line for a terminal: without the characters that move the cursor, end the
// line or turn the writing direction, and cut after maxLine characters. Strangers wrote parts of s:
// a file's name, the names in a certificate, the reply of a mail server.
func plain(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxLine {
			s = s[:i] + "…"
			break
		}
	}
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) && r != '\t' {
			return utf8.RuneError
		}
		return r // for bytes that are not UTF-8, this is RuneError too
	}, s)
}
