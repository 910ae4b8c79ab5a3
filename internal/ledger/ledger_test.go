package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var ledgerTime = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

func numberedCID(n int) cid.Cid {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	hash, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.DagProtobuf, hash)
}

func testLedger(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := Open(dir)
	must.Succeed(t, err)
	return l
}

// The epochs of these tests.
const (
	november crypto.Epoch = "2026-11.k7d2qawm"
	december crypto.Epoch = "2026-12.aaaaaaaa"
	february crypto.Epoch = "2027-02-28.bbbbbbbb"
)

func numberedEntry(e crypto.Epoch, n int) Entry {
	return Entry{CID: numberedCID(n), Core: numberedCID(-n), KID: crypto.KID{Epoch: e}, Epoch: e, Size: int64(n), Created: ledgerTime, Mail: "0123456789abcdef", Kind: KindFile}
}

func add(t testing.TB, l *Ledger, e crypto.Epoch, numbers ...int) {
	t.Helper()
	var entries []Entry
	for _, n := range numbers {
		entries = append(entries, numberedEntry(e, n))
	}
	must.Succeed(t, l.Append(entries...))
}

func wantLines(t *testing.T, l *Ledger, present bool, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		rec, ok, err := l.Lookup(numberedCID(n))
		if err != nil || ok != present || ok && (rec.Size != int64(n) || !rec.Created().Equal(ledgerTime)) {
			t.Errorf("object %d: got %+v, %v, %v; want it present: %v", n, rec, ok, err, present)
		}
	}
}

func TestLedgerIsReadByEveryProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	writer, reader := testLedger(t, dir), testLedger(t, dir)
	wantLines(t, reader, false, 1)
	add(t, writer, november, 1, 2)
	wantLines(t, reader, true, 1, 2)
	wantLines(t, reader, false, 3)
	add(t, writer, november, 3)
	add(t, testLedger(t, dir), december, 4) // another process, another month
	wantLines(t, reader, true, 1, 2, 3, 4)
	wantLines(t, testLedger(t, dir), true, 4, 3, 2, 1)
	if rec, _, err := reader.Lookup(numberedCID(4)); err != nil || rec.Epoch != december {
		t.Errorf("epoch: got %v, %v", rec.Epoch, err)
	}
}

// The last line may be unfinished, after a crash or on a full disk. The other lines count.
func TestUnfinishedLedgerLineIsPassedOver(t *testing.T) {
	whole := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	add(t, whole, november, 1, 2)
	text, err := os.ReadFile(whole.path(november))
	must.Succeed(t, err)
	first := bytes.IndexByte(text, '\n') + 1
	for cut := range text {
		dir := filepath.Join(t.TempDir(), "ledger")
		l := testLedger(t, dir)
		must.Succeed(t, os.WriteFile(l.path(november), text[:cut], 0o600))
		wantLines(t, l, cut >= first, 1)
		wantLines(t, l, false, 2)
		add(t, testLedger(t, dir), november, 3)
		wantLines(t, l, true, 3)
		wantLines(t, l, cut >= first-1, 1) // a line that lacked only its newline is whole now
		wantLines(t, l, cut >= len(text)-1, 2)
		wantLines(t, testLedger(t, dir), true, 3) // a process that reads all of it in one scan
		if got, err := os.ReadFile(l.path(november)); err != nil || !bytes.HasPrefix(got, text[:cut]) || bytes.HasPrefix(got, []byte("\n")) {
			t.Errorf("cut at %d: got %q, %v", cut, got, err)
		}
	}
}

func TestMalformedLedgerLinesArePassedOver(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	c := numberedCID(9)
	line := func(c cid.Cid, size int) string {
		return fmt.Sprintf(`{"cid":%q,"core":%q,"size":%d,"created":"2026-11-22T20:00:00Z"}`+"\n", c, numberedCID(1), size)
	}
	junk := "\n\n{}\nnull\n{\"cid\":\"bafy\"}\n" + line(cid.NewCidV1(cid.Raw, c.Hash()), 9) + line(c, -9) +
		fmt.Sprintf(`{"cid":%q,"size":9}`+"\n", c) + strings.Repeat("x", 1<<20) + "\n"
	must.Succeed(t, os.WriteFile(l.path(november), []byte(junk), 0o600))
	for _, name := range []string{"notes.txt", "x.jsonl", "2026-13.k7d2qawm.jsonl", "2026-11.jsonl"} {
		must.Succeed(t, os.WriteFile(filepath.Join(l.dir, name), []byte(line(c, 9)), 0o600))
	}
	wantLines(t, l, false, 9)
	add(t, l, november, 1)
	wantLines(t, l, true, 1)
}

// A ledger file that became shorter, as after a restore from a backup, is read from its beginning.
func TestReplacedLedgerIsReadAnew(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	add(t, l, november, 1, 2, 3)
	wantLines(t, l, true, 1)
	must.Succeed(t, os.Remove(l.path(november)))
	wantLines(t, l, false, 7)
	add(t, testLedger(t, l.dir), november, 4)
	wantLines(t, l, true, 4, 1)
}

// A lookup finds what was appended before it began, also while other lookups run.
func TestConcurrentLookupsFindWhatWasAppended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	reader := testLedger(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			writer := reader
			if i%2 == 0 {
				writer = testLedger(t, dir)
			}
			for n := 100 * i; n < 100*i+10; n++ {
				if err := writer.Append(numberedEntry(november, n)); err != nil {
					t.Error(err)
				}
				if _, ok, err := reader.Lookup(numberedCID(n)); !ok || err != nil {
					t.Errorf("object %d: got %v, %v", n, ok, err)
				}
			}
		})
	}
	wg.Wait()
}

// A ledger that cannot be read is an error, not an empty ledger.
func TestUnreadableLedgerIsAnError(t *testing.T) {
	l := testLedger(t, filepath.Join(t.TempDir(), "ledger"))
	must.Succeed(t, os.Mkdir(l.path(november), 0o700))
	for range 2 {
		if _, _, err := l.Lookup(numberedCID(1)); err == nil {
			t.Error("no error")
		}
	}
}

const appenderEnv = "DETACH_TEST_LEDGER"

// TestLedgerAppender is the process that TestLedgerLinesOfProcessesDoNotMix starts.
func TestLedgerAppender(t *testing.T) {
	dir, first, ok := strings.Cut(os.Getenv(appenderEnv), "|")
	if !ok {
		t.Skip("run by TestLedgerLinesOfProcessesDoNotMix")
	}
	from, err := strconv.Atoi(first)
	must.Succeed(t, err)
	l := testLedger(t, dir)
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	must.Succeed(t, err)
	for n := from; n < from+60; n += 3 {
		add(t, l, november, n, n+1, n+2)
	}
}

func TestLedgerLinesOfProcessesDoNotMix(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	reader := testLedger(t, dir)
	exe, err := os.Executable()
	must.Succeed(t, err)
	var appenders []*exec.Cmd
	var starts []io.WriteCloser
	const n = 4
	for i := range n {
		cmd := exec.Command(exe, "-test.run=^TestLedgerAppender$")
		cmd.Env = append(os.Environ(), appenderEnv+"="+dir+"|"+strconv.Itoa(1000*i))
		in, err := cmd.StdinPipe()
		must.Succeed(t, err)
		must.Succeed(t, cmd.Start())
		appenders, starts = append(appenders, cmd), append(starts, in)
	}
	for _, in := range starts {
		_, err := io.WriteString(in, "go\n")
		must.Succeed(t, err)
	}
	wantLines(t, reader, false, -1) // reading while they write
	for _, cmd := range appenders {
		must.Succeed(t, cmd.Wait())
	}
	for i := range n {
		for k := range 60 {
			wantLines(t, reader, true, 1000*i+k)
		}
	}
}

// Any client of the gateway can cause misses.
func BenchmarkLedgerMiss(b *testing.B) {
	l := testLedger(b, filepath.Join(b.TempDir(), "ledger"))
	for day := range 365 {
		add(b, l, crypto.Epoch(ledgerTime.AddDate(0, 0, -day).Format("2006-01-02")+".bbbbbbbb"), day)
	}
	c := numberedCID(-1)
	for b.Loop() {
		if _, ok, err := l.Lookup(c); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
