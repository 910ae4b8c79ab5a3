// Package progress shows on a terminal how far a long command has come.
//
// The invariant: it draws one line, always in the same place, and only on a terminal.
package progress

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// Bar counts the bytes that are written through it, or other things. On a terminal it draws one
// line: the bytes, the rate and the time left. Elsewhere it draws nothing. It is not safe for
// concurrent use.
type Bar struct {
	to          io.Writer // the terminal, or nil
	width       func() int
	say         func(int64) string // writes a number with its unit
	things      string             // what is counted; "" for bytes
	total, done int64
	before      int64 // of done, bytes of an earlier attempt: they say nothing about the rate
	began, last time.Time
	now         func() time.Time
}

// New returns a Bar for total bytes, of which an earlier attempt has done some. It draws if stderr
// is a terminal.
func New(stderr io.Writer, done, total int64) *Bar {
	b := &Bar{total: total, done: done, before: done, now: time.Now, say: texts.English().Size}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.to = stderr
		b.width = func() int { return widthOf(int(f.Fd())) }
	}
	b.began = b.now()
	return b
}

// NewCount returns a Bar that counts things, with their name in the plural.
func NewCount(stderr io.Writer, things string) *Bar {
	b := New(stderr, 0, 0)
	b.say, b.things = func(n int64) string { return strconv.FormatInt(n, 10) }, " "+things
	return b
}

// Set says how many things are done, and how many there are.
func (b *Bar) Set(done, total int) {
	b.done, b.total = int64(done), int64(total)
	b.draw()
}

// widthOf returns 80 for a terminal that does not know its width, on a serial line or in a
// container.
func widthOf(terminal int) int {
	if w, _, err := term.GetSize(terminal); err == nil && w > 0 {
		return w
	}
	return 80
}

func (b *Bar) Write(p []byte) (int, error) {
	b.done += int64(len(p))
	b.draw()
	return len(p), nil
}

// draw draws the line, unless it has just been drawn.
func (b *Bar) draw() {
	if now := b.now(); b.to != nil && now.Sub(b.last) >= 100*time.Millisecond {
		b.last = now
		fmt.Fprintf(b.to, "\r%s\x1b[K", b.line(b.width())) // CSI K erases to the end of the line (ECMA-48)
	}
}

// Clear removes the line, before anything else is printed.
func (b *Bar) Clear() {
	if b.to != nil {
		fmt.Fprint(b.to, "\r\x1b[K")
	}
}

func (b *Bar) line(width int) string {
	const left = 60 // columns for the words beside the bar
	seconds := b.now().Sub(b.began).Seconds()
	rate := float64(b.done-b.before) / max(seconds, 1e-3)
	words := fmt.Sprintf("%s of %s%s, %s/s, %s left", b.say(b.done), b.say(b.total), b.things, b.say(int64(rate)), timeFor(float64(b.total-b.done)/max(rate, 1)))
	cells := min(width-left, 40)
	if cells < 10 || b.total == 0 {
		return fit(words, max(width-1, 0))
	}
	full := int(int64(cells) * min(b.done, b.total) / b.total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(" ", cells-full) + "] " + words
}

// fit drops what the width does not hold: the time first, then the rate.
func fit(words string, width int) string {
	for len(words) > width {
		i := strings.LastIndex(words, ", ")
		if i < 0 {
			return words[:width]
		}
		words = words[:i]
	}
	return words
}

// timeFor writes seconds as people read them. After some days it would not be a forecast, and after
// 292 years not a Duration.
func timeFor(seconds float64) string {
	if seconds >= 100*time.Hour.Seconds() {
		return "more than 100h"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
