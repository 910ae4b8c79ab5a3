package mail

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// corpusDir is a collection of real and awkward mail beside the project.
var corpusDir = stage.Path("..", "shared", "corpus")

// plainName matches file names that all programs write and show alike.
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

// Every mail of the corpus is sent, with both of Postfix's ways to treat bare newlines. Each
// arrives byte for byte as without detach; or it has links in place of attachments, and each
// attachment is behind its link or still in the mail.
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

// visitsOfAKind bounds how often the browser opens a file of one media type, which takes a second
// or more. All files are downloaded and compared without the browser.
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

// judge compares a rewritten mail with the one that two Postfixes alone deliver.
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
		same := slices.DeleteFunc(slices.Clone(before.Leaves), func(l *stage.Leaf) bool { return l.SHA256 != hash })
		if len(same) == 0 {
			t.Errorf("%s: link %d of %d gives a file that is not in the mail", name, i+1, len(links))
		} else {
			c.visit(l, same[0], len(same) == 1)
		}
	}
	after.CheckAll(t, behind)
	for _, l := range before.Leaves {
		if here[l.SHA256]--; here[l.SHA256] < 0 && !inserted(l, after.Leaves) {
			t.Errorf("%s: a part is gone: %s, %d bytes", name, l.Type, l.Size)
		}
	}
}

// visit lets the browser open the link, each third on a phone and each fourth without JavaScript.
// If the mail has the same file under two names, either name is right.
func (c *corpusRun) visit(l stage.Link, file *stage.Leaf, once bool) {
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

// inserted reports whether one of the leaves is the text of l with a notice inserted at one place.
func inserted(l *stage.Leaf, leaves []*stage.Leaf) bool {
	if !strings.HasPrefix(l.Type, "text/") {
		return false
	}
	want := []rune(strings.TrimSpace(unixLines(l.Text)))
	for _, candidate := range leaves {
		text := []rune(strings.TrimSpace(unixLines(candidate.Text)))
		same := 0 // runes before the notice
		for same < min(len(want), len(text)) && want[same] == text[same] {
			same++
		}
		if rest := len(want) - same; len(text) >= len(want) && slices.Equal(text[len(text)-rest:], want[same:]) {
			return true
		}
	}
	return false
}

func unixLines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }
