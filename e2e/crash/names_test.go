package crash

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// call is one traced system call, on absolute paths.
var call = regexp.MustCompile(`(?m)^\d+ +(\w+)\((.*)\) += 0$|^\d+ +(openat)\((.*O_CREAT.*)\) += \d+`)

// quoted is a path in the arguments of a call, and descriptor the path of its descriptor.
var (
	quoted     = regexp.MustCompile(`"([^"]+)"`)
	descriptor = regexp.MustCompile(`^\d+<([^>]+)>`)
)

// made returns the name that a call gives to a directory or to a file that must stay, or "".
// Temporary files and the records of pending mails need not survive a power failure.
func made(name, args string) string {
	paths := quoted.FindAllStringSubmatch(args, -1)
	if len(paths) == 0 {
		return ""
	}
	path := paths[len(paths)-1][1]
	switch name {
	case "mkdir", "mkdirat", "link", "linkat", "rename", "renameat", "renameat2":
		return path
	case "openat":
		if strings.HasSuffix(path, ".jsonl") {
			return path
		}
	}
	return ""
}

// Before Detach lets go of a new installation's first mail, the directory above each name that it
// has made is synced: that of the ledger, of the secret, of the object, and of the data directory
// itself, whatever the store.
func TestNamesSurviveAPowerFailure(t *testing.T) {
	servers.Need(t, "strace")
	for store, node := range map[string]string{"embedded": "", "kubo": "/ip4/127.0.0.1/tcp/1"} {
		t.Run(store, func(t *testing.T) {
			top := t.TempDir()
			d := stage.Configure(t, stage.Setup{Kubo: node, DataDir: filepath.Join(top, "var", "data")})
			mail := stage.TextAndPDF
			want := []string{"var", "data", "keys", "ledger", "objects", ".key", ".jsonl", ".car"}
			if node != "" { // which nothing reaches: no mail with an attachment passes
				mail, want = "Subject: x\r\n\r\nHello\r\n", []string{"var", "data", "keys", "ledger"}
			}
			trace := filepath.Join(top, "trace")
			d.Pipe(t, "filter", strings.NewReader(mail), "strace", "-f", "-y", "-qq", "-o", trace, "-s", "4096",
				"-e", "signal=none", "-e", "trace=mkdir,mkdirat,link,linkat,rename,renameat,renameat2,openat,fsync")
			unsynced := make(map[string]string) // the directories above new names, and one of the names
			seen := ""
			for _, m := range call.FindAllStringSubmatch(unbroken(stage.ReadFile(t, trace)), -1) {
				name, args := m[1]+m[3], m[2]+m[4]
				if path := made(name, args); strings.HasPrefix(path, top) {
					unsynced[filepath.Dir(path)] = path
					seen += path + "\n"
				} else if dir := descriptor.FindStringSubmatch(args); name == "fsync" && dir != nil {
					delete(unsynced, dir[1])
				}
			}
			for dir, path := range unsynced {
				t.Errorf("%s was not synced after %s was made", dir, path)
			}
			for _, name := range want {
				if !strings.Contains(seen, name+"\n") {
					t.Errorf("the trace has no %s:\n%s", name, seen)
				}
			}
		})
	}
}

// unbroken joins the two lines into which strace breaks a call that another thread interrupts. The
// call takes the place of its end.
func unbroken(trace string) string {
	begun := make(map[string]string) // by thread
	var b strings.Builder
	for line := range strings.Lines(trace) {
		thread, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimLeft(rest, " ")
		if head, ok := strings.CutSuffix(rest, " <unfinished ...>"); ok {
			begun[thread] = head
			continue
		}
		if _, tail, ok := strings.Cut(rest, " resumed>"); ok && strings.HasPrefix(rest, "<... ") {
			rest = begun[thread] + tail
		}
		fmt.Fprintf(&b, "%s %s\n", thread, rest)
	}
	return b.String()
}
