package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// echo is a server that says back what it is told, and a wire to it.
func echo(t *testing.T) (*wire, chan trap) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	sprung := make(chan trap, 10)
	return newWire(t, l.Addr().String(), func(f trap) { sprung <- f }), sprung
}

// talk sends text in one piece, half-closes, and returns what comes back.
func talk(t *testing.T, w *wire, text string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	return string(got), err
}

func TestWireCarries(t *testing.T) {
	w, _ := echo(t)
	large := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	if got, err := talk(t, w, large); err != nil || got != large {
		t.Errorf("got %d bytes, %v, want the %d that were sent, and then the end", len(got), err, len(large))
	}
}

func TestWireBreaks(t *testing.T) {
	for _, test := range []struct {
		name   string
		trap   trap
		want   string
		sprung int
	}{
		{"cut after 3", trap{after: 3, kind: cut}, "abc", 1},
		{"cut at once", trap{kind: cut}, "", 1},
		{"cut before words", trap{words: "ef", kind: cut}, "abcd", 1},
		{"stalled", trap{after: 3, kind: stalled, stall: time.Millisecond}, "abcdefgh", 1},
		{"not reached", trap{after: 8, kind: cut}, "abcdefgh", 0},
		{"not said", trap{words: "eg", kind: cut}, "abcdefgh", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, sprung := echo(t)
			w.set(back, test.trap)
			if got, err := talk(t, w, "abcdefgh"); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if len(sprung) != test.sprung {
				t.Errorf("%d traps have sprung, want %d", len(sprung), test.sprung)
			}
		})
	}
}

func TestWireResets(t *testing.T) {
	w, _ := echo(t)
	w.set(there, trap{after: 3, kind: reset})
	if got, err := talk(t, w, "abcdefgh"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset connection", got, err)
	}
}

// Bytes count whatever connection they pass on, and several traps each have their turn.
func TestWireCounts(t *testing.T) {
	w, _ := echo(t)
	w.set(back, trap{after: 10, kind: cut})
	w.set(back, trap{after: 17, kind: cut})
	for _, want := range []string{"abcdefgh", "ab", "abcdefg", "abcdefgh"} {
		if got, err := talk(t, w, "abcdefgh"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	w.set(back, trap{kind: cut})
	w.disarm()
	if got, err := talk(t, w, "abcdefgh"); err != nil || got != "abcdefgh" {
		t.Errorf("without its traps: got %q, %v", got, err)
	}
}

// Whoever dials a wire whose server is away learns it.
func TestWireWithoutServer(t *testing.T) {
	w := newWire(t, "127.0.0.1:1", func(trap) {})
	c, err := net.Dial("tcp", w.addr)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset connection", err)
	}
}
