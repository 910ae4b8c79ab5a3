package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

const (
	gigabyte    = 1 << 30
	memoryLimit = 64 << 20
)

// bigMail streams a mail with one attachment of the given size, made as it is read.
type bigMail struct {
	io.Reader
	hash hash.Hash
}

func newBigMail(size int64) *bigMail {
	h := sha256.New()
	body, w := io.Pipe()
	go func() {
		lines := bufio.NewWriterSize(w, 1<<20)
		enc := base64.NewEncoder(base64.StdEncoding, &lineBreaker{w: lines})
		_, err := io.CopyN(io.MultiWriter(enc, h), rand.NewChaCha8([32]byte{42}), size)
		enc.Close()
		lines.Flush()
		w.CloseWithError(err)
	}()
	before, after, _ := strings.Cut(textAndPDF, base64Lines(report.content))
	return &bigMail{io.MultiReader(strings.NewReader(before), body, strings.NewReader("\r\n"+after)), h}
}

func (m *bigMail) sha256() string { return hex.EncodeToString(m.hash.Sum(nil)) }

// lineBreaker ends a line after every 76 bytes.
type lineBreaker struct {
	w      *bufio.Writer
	column int
}

func (b *lineBreaker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(76-b.column, len(rest))
		if _, err := b.w.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		if b.column += n; b.column == 76 {
			b.w.WriteString("\r\n")
			b.column = 0
		}
	}
	return len(p), nil
}

// A wrapper that runs a command and reports the most memory it ever had. It is Python and not this process, because Linux
// counts what the parent had at the fork too, and this process has had whole mails.
const peak = `import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)`

func TestFilterOfAGigabyteInLittleMemory(t *testing.T) {
	servers.Need(t, "python3")
	python := startDecoder(t)
	d := configure(t, setup{proxy: servers.FreeAddr(t), reinject: "127.0.0.1:9"})
	report := t.TempDir() + "/peak"
	mail := newBigMail(gigabyte)
	cmd := exec.Command("python3", "-c", peak, report, binary, "filter", "--config", d.config)
	cmd.Stdin = mail
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("detach filter: %v\n%s", err, lastLines(stderr.String(), 10))
	}
	keepLog("detach", stderr.String())
	text, err := os.ReadFile(report)
	must(t, err)
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	must(t, err)
	t.Logf("filter: 1 GiB in %.1f s, at most %d MiB", time.Since(began).Seconds(), kib>>10)
	if kib<<10 >= memoryLimit {
		t.Errorf("filter had %d MiB, want less than %d", kib>>10, memoryLimit>>20)
	}
	if links := python.parse(t, out.Bytes()).links(); len(links) != 1 {
		t.Errorf("%d links in the rewritten mail, want 1", len(links))
	}
}

func TestServeOfAGigabyteInLittleMemory(t *testing.T) {
	onEachStore(t, func(t *testing.T, s store) {
		python := startDecoder(t)
		box := servers.NewMailbox(t)
		d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: box.Addr, kubo: s.api(), policy: `max_size = "4GiB"`})
		mail := newBigMail(gigabyte)
		m := message(nil)
		m.Data = mail
		began := time.Now()
		if reply := servers.Send(t, d.proxy, "", m); !strings.HasPrefix(reply, "250 ") {
			t.Fatalf("1 GiB got %q", reply)
		}
		took := time.Since(began)
		links := python.parse(t, box.Mails()[0].Data).links()
		if len(links) != 1 {
			t.Fatalf("%d links in the rewritten mail, want 1", len(links))
		}
		began = time.Now()
		if got := fileHash(t, links[0]); got != mail.sha256() {
			t.Errorf("downloaded SHA-256 %s, want %s", got, mail.sha256())
		}
		most := d.peakMemory(t)
		t.Logf("serve: 1 GiB in %.1f s, out in %.1f s, at most %d MiB", took.Seconds(), time.Since(began).Seconds(), most>>20)
		if most >= memoryLimit {
			t.Errorf("serve had %d MiB, want less than %d", most>>20, memoryLimit>>20)
		}
	})
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most that the running detach ever had in memory.
func (d *detach) peakMemory(t *testing.T) int64 { return d.status(t, highWater) << 10 }
