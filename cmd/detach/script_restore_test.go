package main

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
)

func findRestoreLink(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	links, err := skeleton.Links(bytes.NewReader(raw))
	ts.Check(err)
	ts.Setenv("LINK", links[0].URL())
	ts.Setenv("CID", links[0].CID.String())
}

func travel(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	mail := "From someone@example.org Sun Nov 22 20:00:00 2026\nReturn-Path: <someone@example.org>\nDelivered-To: box@example.org\n" +
		"Received: from mx.example.org\n\tby imap.example.org; Sun, 22 Nov 2026 20:00:00 +0000\n" + strings.ReplaceAll(string(raw), "\r\n", "\n")
	mail = strings.Replace(mail, "\nDetach-Restore: ", "\ndetach-restore:\n\t", 1)
	mail = strings.Replace(mail, "\n\n", "\nX-Spam-Status: No\nStatus: RO\n\n", 1)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(mail), 0o600))
}

var restoreField = regexp.MustCompile(`Detach-Restore: .*`)

func refield(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	field := "Detach-Restore: https://files.example.org/" + args[2] + "#" + args[3] + "\r"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), restoreField.ReplaceAllLiteral(raw, []byte(field)), 0o600))
}

func deny(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs("data/denied"), []byte(args[0]+"\n"), 0o600))
}

func files(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strconv.Itoa(len(names)) != args[1] || len(args) > 2 && !strings.Contains(strings.Join(names, " "), args[2]) {
		ts.Fatalf("%s has %q, want %s", args[0], names, strings.Join(args[1:], " "))
	}
}
