package stage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Kind is a kind of secret.
type Kind string

// No log may have secrets of these kinds. Only Postfix's log may have addresses.
const (
	FragmentSecret Kind = "fragment"
	ShareSecret    Kind = "share"
	KeySecret      Kind = "key"
	TicketSecret   Kind = "ticket"
	NameSecret     Kind = "file name"
	SubjectSecret  Kind = "subject"
	AddressSecret  Kind = "address"
)

// shortest is the length from which a secret differs from a chance word.
var shortest = map[Kind]int{NameSecret: 5, SubjectSecret: 9, AddressSecret: 6}

// notes are the secrets, and every log that was written.
type notes struct {
	mu      sync.Mutex
	secrets map[string]Kind
	logs    []writtenLog
}

type writtenLog struct{ server, text string }

var noted = notes{secrets: make(map[string]Kind)}

// KeepSecret notes a secret.
func KeepSecret(kind Kind, secret string) { noted.keepSecret(kind, secret) }

// KeepLog notes a server's log.
func KeepLog(server, text string) { noted.keepLog(server, text) }

func (n *notes) keepSecret(kind Kind, secret string) {
	if len(secret) < max(1, shortest[kind]) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.secrets[secret] = kind
}

func (n *notes) keepLog(server, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logs = append(n.logs, writtenLog{server, text})
}

// maxFound bounds how many secrets are reported: the first say as much as all.
const maxFound = 10

// search looks in every log for every secret. It returns the secrets that it found, and the kinds
// of secrets that no test used.
func (n *notes) search(kinds []Kind) (wrong []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for secret, kind := range n.secrets {
		for _, log := range n.logs {
			if log.server == "postfix" && kind == AddressSecret {
				continue
			}
			if i := strings.Index(log.text, secret); i >= 0 && len(wrong) < maxFound {
				wrong = append(wrong, fmt.Sprintf("%s in the log of %s: %q", kind, log.server, lineAt(log.text, i)))
			}
		}
	}
	used := slices.Collect(maps.Values(n.secrets))
	for _, kind := range kinds {
		if !slices.Contains(used, kind) || len(n.logs) == 0 {
			wrong = append(wrong, fmt.Sprintf("the logs were searched for no %s: these tests used none, or logged nothing", kind))
		}
	}
	return wrong
}

func lineAt(text string, i int) string {
	start := strings.LastIndexByte(text[:i], '\n') + 1
	line, _, _ := strings.Cut(text[start:], "\n")
	return line
}
