package e2e

import (
	"flag"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// TestLogs is the last test of the package (files are run in the order of their names): whatever was logged in the whole run
// holds no key, link, file name, subject or address that was used in it. Postfix logs addresses, which is its business.
func TestLogs(t *testing.T) {
	faults.Covers(t, 82)
	if len(noted.logs) == 0 || len(noted.secrets) == 0 {
		t.Skip("nothing else has run")
	}
	lines := make(map[string]int)
	for _, log := range noted.logs {
		lines[log.server] += strings.Count(log.text, "\n")
	}
	found := 0
	for secret, kind := range noted.secrets {
		for _, log := range noted.logs {
			if log.server == "postfix" && kind == addressSecret {
				continue
			}
			if i := strings.Index(log.text, secret); i >= 0 && found < 10 {
				found++
				t.Errorf("a %s is in the log of %s: %q", kind, log.server, lineAt(log.text, i))
			}
		}
	}
	kinds := make(map[string]int)
	for _, kind := range noted.secrets {
		kinds[kind]++
	}
	t.Logf("lines of log: %v; searched for %v", lines, kinds)
	for _, kind := range []string{fragmentSecret, shareSecret, keySecret, ticketSecret, nameSecret, subjectSecret, addressSecret} {
		if whole := flag.Lookup("test.run").Value.String() == ""; whole && kinds[kind] == 0 {
			t.Errorf("no %s was used in this run, so the logs were not searched for any", kind)
		}
	}
}

func lineAt(text string, i int) string {
	start := strings.LastIndexByte(text[:i], '\n') + 1
	line, _, _ := strings.Cut(text[start:], "\n")
	return line
}
