package mail

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// corpusDir is a collection of real and awkward mail that lies beside the project, not in it.
var corpusDir = stage.Path("..", "shared", "corpus")

// plainName is a file name that every program writes and shows alike.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{3,30}\.[a-z]{2,4}$`)

// sample is one mail of the corpus, its lines ended as SMTP wants them.
type sample struct {
	name     string
	attached bool // as the index guesses
	mail     []byte
}

func readCorpus(t *testing.T) []sample {
	t.Helper()
	index, err := os.Open(filepath.Join(corpusDir, "INDEX.tsv"))
	if os.IsNotExist(err) {
		t.Skipf("no corpus: %s is absent", corpusDir)
	}
	stage.Must(t, err)
	defer index.Close()
	r := csv.NewReader(index)
	r.Comma, r.LazyQuotes = '\t', true
	rows, err := r.ReadAll()
	stage.Must(t, err)
	var samples []sample
	for _, row := range rows[1:] {
		name := filepath.Join(row[0], row[1])
		mail, err := os.ReadFile(filepath.Join(corpusDir, name))
		stage.Must(t, err)
		samples = append(samples, sample{name, row[3] == "yes", withCRLF(mail)})
	}
	return samples
}

// withCRLF makes every line end CRLF, and ends the last line.
func withCRLF(mail []byte) []byte {
	mail = bytes.ReplaceAll(mail, []byte("\r\n"), []byte("\n"))
	if len(mail) > 0 && mail[len(mail)-1] != '\n' {
		mail = append(mail, '\n')
	}
	return bytes.ReplaceAll(mail, []byte("\n"), []byte("\r\n"))
}

// Every mail of the corpus is sent, with both of Postfix's ways to treat bare newlines. What
// arrives is, byte for byte, what arrives without detach; or it has links in place of attachments,
// and each attachment is behind its link or still there.
func TestCorpusArrives(t *testing.T) {
	faults.Covers(t, 103)
	samples := readCorpus(t)
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		bare := "normalize"
		if s.Kubo != nil {
			bare = "no"
		}
		run := &corpusRun{Chain: stage.StartChain(t, s.API(), bare), python: stage.StartDecoder(t), kinds: make(map[string]int)}
		var wg sync.WaitGroup
		work := make(chan sample)
		for range 4 {
			wg.Go(func() {
				defer func() {
					for range work { // also when a missing mail has ended this goroutine
					}
				}()
				for s := range work {
					run.pass(t, s)
				}
			})
		}
		for _, s := range samples {
			work <- s
		}
		close(work)
		wg.Wait()
		t.Logf("%d mails: %d untouched and byte-identical, %d rewritten with %d links, %d refused by Postfix with and without detach",
			len(samples), run.untouched.Load(), run.rewritten.Load(), run.links.Load(), run.refused.Load())
		if got, want := int64(len(run.Box.Mails())), 2*(int64(len(samples))-run.refused.Load()); got != want {
			t.Errorf("%d mails were delivered, want %d: each once, with and without detach", got, want)
		}
		if run.rewritten.Load() < 100 {
			t.Errorf("only %d mails were rewritten", run.rewritten.Load())
		}
		stage.Browse(t, run.visits)
		t.Logf("%d links opened in Chromium", len(run.visits))
	})
}

type corpusRun struct {
	*stage.Chain
	python *stage.Decoder

	untouched, rewritten, links, refused atomic.Int64

	mu     sync.Mutex
	kinds  map[string]int // how many visits there are to files of each media type
	visits []stage.Visit
}

// visitsOfAKind bounds how often the browser opens a file of one media type, since it takes a
// second or more for each. All files are fetched and compared in any case.
const visitsOfAKind = 3

func (c *corpusRun) pass(t *testing.T, s sample) {
	control, controlReply, err := c.through(t, c.Postfix.Control, s.mail)
	if err != nil {
		t.Errorf("%s: without detach: %v", s.name, err)
		return
	}
	got, reply, err := c.through(t, c.Postfix.Front, s.mail)
	switch {
	case err != nil:
		t.Errorf("%s: %v", s.name, err)
	case controlReply != "" || reply != "":
		c.refused.Add(1)
		// Detach notices too many hops before Postfix does, so the text may differ, but not the
		// code.
		if len(reply) < 3 || len(controlReply) < 3 || reply[:3] != controlReply[:3] {
			t.Errorf("%s: refused with %q, want %q as without detach", s.name, reply, controlReply)
		}
	case bytes.Equal(got, control):
		c.untouched.Add(1)
	default:
		c.judge(t, s.name, control, got)
	}
}

// through sends a mail and returns what was delivered, or the reply that refused it.
func (c *corpusRun) through(t *testing.T, server string, mail []byte) (delivered []byte, refusal string, err error) {
	client, err := servers.Dial(server, "")
	if err != nil {
		return nil, "", err
	}
	defer client.Close()
	reply, err := client.Send(stage.Message(string(mail)))
	if err != nil {
		return nil, "", err
	}
	client.Cmd("QUIT")
	if !strings.HasPrefix(reply, "250 ") {
		return nil, reply, nil
	}
	stripped, err := servers.StripTrace(c.Box.Wait(t, servers.QueueID(reply)).Data, 2)
	return stripped, "", err
}

// judge compares a rewritten mail with what two Postfixes alone have made of it.
func (c *corpusRun) judge(t *testing.T, name string, want, got []byte) {
	c.rewritten.Add(1)
	before, after := c.python.Parse(t, want), c.python.Parse(t, got)
	if before.Error != "" || after.Error != "" {
		t.Errorf("%s: does not parse: %s, rewritten: %s", name, before.Error, after.Error)
		return
	}
	links := after.Links()
	if len(links) == 0 {
		t.Errorf("%s: changed without a link:\n%.2000q", name, got)
	}
	c.links.Add(int64(len(links)))

	var behind []string
	here := make(map[string]int) // what the recipient has: in the mail, and behind the links
	for _, l := range after.Leaves {
		here[l.SHA256]++
	}
	for i, l := range links {
		hash := stage.FileHash(t, l)
		here[hash]++
		behind = append(behind, hash)
		if at := leafWith(before.Leaves, hash); at == nil {
			t.Errorf("%s: link %d of %d gives a file that is not in the mail", name, i+1, len(links))
		} else {
			c.visit(l, *at, countWith(before.Leaves, hash) == 1)
		}
	}
	after.CheckAll(t, behind)
	for _, l := range before.Leaves {
		if here[l.SHA256]--; here[l.SHA256] < 0 && !inserted(l, after.Leaves) {
			t.Errorf("%s: a part is gone: %s, %d bytes", name, l.Type, l.Size)
		}
	}
}

// visit has the link opened in the browser, each third on a phone and each fourth without
// JavaScript. If the mail has the same file under two names, either name is right.
func (c *corpusRun) visit(l stage.Link, file stage.Leaf, once bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds[file.Type]++; c.kinds[file.Type] > visitsOfAKind {
		return
	}
	v := l.Visit("", file.SHA256)
	if once && plainName.MatchString(file.Name) {
		v.Name = file.Name
	}
	if len(c.visits)%3 == 1 {
		v.Device = "phone"
	}
	if len(c.visits)%4 == 3 {
		v.JavaScript = false
	}
	c.visits = append(c.visits, v)
}

func leafWith(leaves []stage.Leaf, hash string) *stage.Leaf {
	for i := range leaves {
		if leaves[i].SHA256 == hash {
			return &leaves[i]
		}
	}
	return nil
}

func countWith(leaves []stage.Leaf, hash string) int {
	n := 0
	for _, l := range leaves {
		if l.SHA256 == hash {
			n++
		}
	}
	return n
}

// inserted reports whether one of the leaves is the text of l with the notice inserted at one
// place.
func inserted(l stage.Leaf, leaves []stage.Leaf) bool {
	if !strings.HasPrefix(l.Type, "text/") {
		return false
	}
	want := []rune(strings.TrimSpace(unixLines(l.Text)))
	for _, candidate := range leaves {
		text := []rune(strings.TrimSpace(unixLines(candidate.Text)))
		if len(text) >= len(want) && commonPrefix(want, text)+commonSuffix(want, text) >= len(want) {
			return true
		}
	}
	return false
}

func unixLines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

func commonPrefix(a, b []rune) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []rune) int {
	n := 0
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
