package e2e

import (
	"fmt"
	"os"
	"sync"
)

// The run remembers everything that no log may hold, and every log that was written; TestLogs compares them at the end.
var noted = struct {
	sync.Mutex
	secrets map[string]string // the secret to what it is
	logs    []runLog
}{secrets: make(map[string]string)}

type runLog struct{ server, text string }

// The kinds of secrets. Addresses are Postfix's business, so only its logs may have them.
const (
	fragmentSecret = "fragment"
	shareSecret    = "share"
	keySecret      = "key"
	ticketSecret   = "ticket"
	nameSecret     = "file name"
	subjectSecret  = "subject"
	addressSecret  = "address"
)

// keepSecret notes one. What is too short to be told from a chance word is left out.
func keepSecret(kind, secret string) {
	shortest := map[string]int{nameSecret: 5, subjectSecret: 9, addressSecret: 6}[kind]
	if len(secret) < max(1, shortest) {
		return
	}
	noted.Lock()
	defer noted.Unlock()
	noted.secrets[secret] = kind
}

// keepLog notes what a server has logged.
func keepLog(server, text string) {
	noted.Lock()
	defer noted.Unlock()
	noted.logs = append(noted.logs, runLog{server, text})
}

func keepLogFile(server, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the log of %s: %w", server, err)
	}
	keepLog(server, string(text))
	return nil
}
