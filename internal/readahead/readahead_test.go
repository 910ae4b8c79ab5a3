package readahead

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func content(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// aloneAndInACrowd runs a test with memory for read-ahead and without. The test must give all of it
// back.
func aloneAndInACrowd(t *testing.T, test func(*testing.T, *memory.Budget)) {
	for name, budget := range map[string]*memory.Budget{"alone": memory.New(1 << 20), "in a crowd": memory.New(BufferSize)} {
		t.Run(name, func(t *testing.T) { test(t, budget) })
		if n := budget.Used(); n != 0 {
			t.Errorf("%s: %d bytes are still taken", name, n)
		}
	}
}

func TestReaderWithoutMemoryReadsWhenBytesAreDue(t *testing.T) {
	budget := memory.New(8 * BufferSize) // for two of three: a quarter is not for read-ahead
	var readers []*Reader
	var sources []*counting
	for range 3 {
		c := &counting{}
		sources = append(sources, c)
		readers = append(readers, NewReader(c, budget))
	}
	for _, r := range readers {
		_, err := r.Next()
		must.Succeed(t, err)
	}
	if sources[2].reads != 1 {
		t.Errorf("%d reads by the last reader, want one for one buffer", sources[2].reads)
	}
	if n := budget.Used(); n != 2*maxBuffers*BufferSize {
		t.Errorf("%d bytes are taken, want those of two readers", n)
	}
	for _, r := range readers {
		r.Close()
	}
	if n := budget.Used(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
}

// The bytes are those of the source, for all sizes of its reads and of the caller's.
func TestReaderGivesWhatItWasGiven(t *testing.T) { aloneAndInACrowd(t, testGives) }

func testGives(t *testing.T, budget *memory.Budget) {
	for _, size := range []int{0, 1, BufferSize - 1, BufferSize, BufferSize + 1, 10*BufferSize + 7} {
		want := content(size)
		for name, src := range map[string]io.Reader{
			"whole":     bytes.NewReader(want),
			"halves":    iotest.HalfReader(bytes.NewReader(want)),
			"early end": iotest.DataErrReader(bytes.NewReader(want)),
		} {
			r := NewReader(src, budget)
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %s: got %d, %v", size, name, len(got), err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%d bytes, %s: after the end: got %d, %v", size, name, n, err)
			}
			r.Close()
		}
		r := NewReader(bytes.NewReader(want), budget)
		var got []byte
		for {
			b, err := r.Next()
			got = append(got, b...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes by Next: got %d", size, len(got))
		}
		r.Close()
	}
}

// An error comes after the bytes that the source gave before it, and every later call returns it.
func TestErrorStays(t *testing.T) { aloneAndInACrowd(t, testErrorStays) }

func testErrorStays(t *testing.T, budget *memory.Budget) {
	broken := errors.New("broken")
	r := NewReader(io.MultiReader(bytes.NewReader(content(BufferSize+5)), iotest.ErrReader(broken)), budget)
	defer r.Close()
	if got, err := io.ReadAll(r); len(got) != BufferSize+5 || err != broken {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if _, err := r.Next(); err != broken {
		t.Errorf("got %v, want %v again", err, broken)
	}
}

func TestNoProgress(t *testing.T) { aloneAndInACrowd(t, testNoProgress) }

func testNoProgress(t *testing.T, budget *memory.Budget) {
	r := NewReader(iotest.ErrReader(nil), budget)
	defer r.Close()
	if _, err := r.Read(make([]byte, 1)); err != io.ErrNoProgress {
		t.Errorf("got %v, want %v", err, io.ErrNoProgress)
	}
}

// counting counts reads. They must have ended when Close returns.
type counting struct {
	reads int // no mutex: the race detector must see a read after Close
}

func (c *counting) Read(p []byte) (int, error) {
	c.reads++
	return len(p), nil
}

func TestNothingReadsAfterClose(t *testing.T) {
	c := &counting{}
	r := NewReader(c, nil)
	_, err := io.ReadFull(r, make([]byte, 5*BufferSize))
	must.Succeed(t, err)
	r.Close()
	if c.reads < 5 || c.reads > 5+maxBuffers {
		t.Errorf("%d reads for 5 buffers", c.reads)
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("in the source") }

// A panic of the source reaches the caller, as it would without a goroutine.
func TestPanicComesBack(t *testing.T) { aloneAndInACrowd(t, testPanicComesBack) }

func testPanicComesBack(t *testing.T, budget *memory.Budget) {
	r := NewReader(panicking{}, budget)
	defer r.Close()
	defer func() {
		if p := recover(); p != "in the source" {
			t.Errorf("recovered %v", p)
		}
	}()
	r.Next()
}

func BenchmarkReader(b *testing.B) {
	src := content(64 << 20)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(bytes.NewReader(src), nil)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
		r.Close()
	}
}
