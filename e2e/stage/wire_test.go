package stage

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// echo returns a wire to a server that sends every byte back.
func echo(t *testing.T) *Wire {
	t.Helper()
	return NewWire(t, servers.Accept(t, func(c *net.TCPConn) { io.Copy(c, c) }))
}

// talk sends text in one piece, half-closes, and returns what comes back.
func talk(t *testing.T, w *Wire, text string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(servers.Patience))
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	return string(got), err
}

// ends returns the Then of a trap that only decides.
func ends(fate Fate) func(*Conn) Fate { return func(*Conn) Fate { return fate } }

func TestWireCarries(t *testing.T) {
	w := echo(t)
	large := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	if got, err := talk(t, w, large); err != nil || got != large {
		t.Errorf("got %d bytes, %v, want the %d that were sent, and then the end", len(got), err, len(large))
	}
	if there, back := w.Came(There), w.Came(Back); there != 1<<20 || back != 1<<20 {
		t.Errorf("counted %d and %d bytes, want %d", there, back, 1<<20)
	}
}

func TestWireBreaksWhereItIsTold(t *testing.T) {
	for _, test := range []struct {
		name   string
		trap   Trap
		fate   Fate
		want   string
		sprung int64
	}{
		{"cut after 3", Trap{After: 3}, Cut, "abc", 1},
		{"cut immediately", Trap{}, Cut, "", 1},
		{"cut before words", Trap{Words: "ef"}, Cut, "abcd", 1},
		{"goes on", Trap{After: 3}, GoesOn, "abcdefgh", 1},
		{"not reached", Trap{After: 8}, Cut, "abcdefgh", 0},
		{"not said", Trap{Words: "eg"}, Cut, "abcdefgh", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := echo(t)
			var sprung atomic.Int64
			test.trap.Then = func(*Conn) Fate {
				sprung.Add(1)
				return test.fate
			}
			w.Set(Back, test.trap)
			if got, err := talk(t, w, "abcdefgh"); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if sprung.Load() != test.sprung {
				t.Errorf("%d traps have sprung, want %d", sprung.Load(), test.sprung)
			}
		})
	}
}

func TestWireResets(t *testing.T) {
	w := echo(t)
	w.Set(There, Trap{After: 3, Then: ends(Reset)})
	if got, err := talk(t, w, "abcdefgh"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset connection", got, err)
	}
	w.Cut()
	if got, err := talk(t, w, "abcdefgh"); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("while cut: got %q, %v, want a reset connection", got, err)
	}
	w.Mend()
	if got, err := talk(t, w, "abcdefgh"); err != nil || got != "abcdefgh" {
		t.Errorf("mended: got %q, %v", got, err)
	}
}

// A wire's traps count the bytes of all connections, and several traps spring one after the other.
func TestWireCountsOverConnections(t *testing.T) {
	w := echo(t)
	w.Set(Back, Trap{After: 10, Then: ends(Cut)})
	w.Set(Back, Trap{After: 17, Then: ends(Cut)})
	for _, want := range []string{"abcdefgh", "ab", "abcdefg", "abcdefgh"} {
		if got, err := talk(t, w, "abcdefgh"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	w.Set(Back, Trap{Then: ends(Cut)})
	w.Disarm()
	if got, err := talk(t, w, "abcdefgh"); err != nil || got != "abcdefgh" {
		t.Errorf("without its traps: got %q, %v", got, err)
	}
	w.SetOnEach(Back, Trap{After: 5, Then: ends(Cut)})
	for range 2 {
		if got, err := talk(t, w, "abcdefgh"); err != nil || got != "abcde" {
			t.Errorf("with a trap on each connection: got %q, %v, want abcde", got, err)
		}
	}
}

// A question can pass while its answer is held.
func TestWireHoldsAnAnswer(t *testing.T) {
	w := echo(t)
	asked, release := make(chan struct{}), make(chan struct{})
	w.Set(There, Trap{Words: "question", Then: func(c *Conn) Fate {
		c.Set(Back, Trap{Then: func(c *Conn) Fate {
			close(asked)
			Hold(c, release)
			return GoesOn
		}})
		return GoesOn
	}})
	answer := make(chan string, 1)
	go func() {
		got, _ := talk(t, w, "a question")
		answer <- got
	}()
	<-asked
	select {
	case got := <-answer:
		t.Errorf("got %q before it was released", got)
	default:
	}
	close(release)
	if got := <-answer; got != "a question" {
		t.Errorf("got %q", got)
	}
}

// A client that dials a wire whose server is away is reset.
func TestWireWithoutServer(t *testing.T) {
	w := NewWire(t, "127.0.0.1:1")
	if got, err := talk(t, w, ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset connection", got, err)
	}
}

// A program ends what it has started, also after a failure.
func TestProgramEndsWhatItStarted(t *testing.T) {
	var order []string
	wrong := Perform(t.Context(), t.TempDir(), io.Discard, func(p *Program) {
		p.Cleanup(func() { order = append(order, "first") })
		p.Cleanup(func() { order = append(order, "second") })
		p.Fatal("broken")
		order = append(order, "not reached")
	})
	if len(wrong) != 1 || wrong[0].Error() != "broken" {
		t.Errorf("got %v, want broken", wrong)
	}
	if want := []string{"second", "first"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}
