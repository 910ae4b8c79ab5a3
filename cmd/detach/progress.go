package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress counts what is written through it and, on a terminal, draws one line: how much, how fast, how long still.
type progress struct {
	to          io.Writer // the terminal, or nil
	width       func() int
	total, done int64
	before      int64 // done by an earlier attempt: it says nothing of the rate
	began, last time.Time
	now         func() time.Time
}

func newProgress(stderr io.Writer, done, total int64) *progress {
	p := &progress{total: total, done: done, before: done, now: time.Now}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.to = stderr
		p.width = func() int { return widthOf(int(f.Fd())) }
	}
	p.began = p.now()
	return p
}

// widthOf is 80 where the terminal does not know: a serial line, a container's.
func widthOf(terminal int) int {
	if w, _, err := term.GetSize(terminal); err == nil && w > 0 {
		return w
	}
	return 80
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if now := p.now(); p.to != nil && now.Sub(p.last) >= 100*time.Millisecond {
		p.last = now
		fmt.Fprintf(p.to, "\r%s\x1b[K", p.line(p.width())) // CSI K: erase to the end of the line (ECMA-48)
	}
	return len(b), nil
}

// clear takes the line away again, before anything else is said.
func (p *progress) clear() {
	if p.to != nil {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

func (p *progress) line(width int) string {
	const left = 52 // columns for the words beside the bar
	seconds := p.now().Sub(p.began).Seconds()
	rate := float64(p.done-p.before) / max(seconds, 1e-3)
	words := fmt.Sprintf("%s of %s, %s/s, %s left", bytesOf(p.done), bytesOf(p.total), bytesOf(int64(rate)), timeFor(float64(p.total-p.done)/max(rate, 1)))
	cells := min(width-left, 40)
	if cells < 10 || p.total == 0 {
		return fit(words, max(width-1, 0))
	}
	full := int(int64(cells) * min(p.done, p.total) / p.total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(" ", cells-full) + "] " + words
}

// fit leaves out what has no room: the time first, then the rate.
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

// timeFor writes seconds as people read them. Beyond some days it is no forecast, and beyond 292 years no Duration.
func timeFor(seconds float64) string {
	if seconds >= 100*time.Hour.Seconds() {
		return "more than 100h"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// bytesOf writes a size as people read it.
func bytesOf(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 999.5 { // rounds up to 1000 of the smaller unit
		value /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %cB", value, "kMGTPE"[unit-1])
}
