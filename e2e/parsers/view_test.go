package parsers

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/python"
)

// A view is what one program shows of a mail.
type view struct {
	Text, HTML string
	Files      []listed
	Error      string // of a program that cannot read the mail
}

// listed is a file in a program's list of attachments.
type listed struct {
	Name, Type, SHA256 string
	Lines              string // the SHA-256 without the kind of the line ends, and without those at the end
	Size               int64
}

// programs are those that read.mjs runs.
var programs = []string{"mailparser", "postalMime"}

// A reading is one mail, read by all programs.
type reading struct {
	python *python.Mail
	views  map[string]view
}

// readers are the running programs. They are safe for concurrent use.
type readers struct {
	python    *python.Decoder
	rewritten [2]atomic.Int64 // mails, for each of minSizes

	mu  sync.Mutex // of Node
	in  io.Writer
	out *bufio.Reader
}

func startReaders(t *testing.T) *readers {
	t.Helper()
	servers.Need(t, "python3", "node", "npm")
	if _, err := os.Stat("node_modules/postal-mime"); err != nil {
		if out, err := exec.Command("npm", "ci").CombinedOutput(); err != nil {
			servers.Missing(t, "npm's mailparser and postal-mime: npm ci fails:\n"+string(out))
		}
	}
	cmd := exec.Command("node", "read.mjs")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must.Succeed(t, err)
	out, err := cmd.StdoutPipe()
	must.Succeed(t, err)
	must.Succeed(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("read.mjs: %v", err)
		}
	})
	return &readers{python: python.Start(t), in: in, out: bufio.NewReader(out)}
}

// read returns how the programs read a mail, without its defects.
func (r *readers) read(t *testing.T, mail []byte) reading {
	t.Helper()
	return r.readAs(t, mail, python.Want{Seen: true})
}

func (r *readers) readAs(t *testing.T, mail []byte, w python.Want) (m reading) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { m.views = r.node(t, mail) })
	m.python = r.python.Parse(t, mail, w)
	wg.Wait()
	return m
}

func (r *readers) node(t *testing.T, mail []byte) (views map[string]view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.in, "{\"mail\": %q}\n", base64.StdEncoding.EncodeToString(mail))
	line, err := r.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &views)
	}
	if err != nil {
		t.Errorf("read.mjs: %v: %.200q", err, line)
	}
	return views
}

// words cuts a text into words. Line ends and blanks of any number are the same, and the tags of
// HTML are apart from the text. Mailparser puts <br/> between two texts, and [cid:…] for a picture.
// Postal-mime puts <div> around a text that it makes to HTML.
func words(text string) []string {
	text = picture.ReplaceAllString(text, " ")
	return strings.Fields(strings.NewReplacer("<br/>", " ", "<div>", " ", "</div>", " ", "<", " <", ">", "> ").Replace(text))
}

var picture = regexp.MustCompile(`\[cid:[^\]]*\]`)

// cutOut returns the words of after that are not in before, if after is before with additions.
func cutOut(before, after []string) (added []string, ok bool) {
	for _, w := range after {
		if len(before) > 0 && w == before[0] {
			before = before[1:]
		} else {
			added = append(added, w)
		}
	}
	return added, len(before) == 0
}
