// Package stack says where a panic came from, and nothing of what was on the way: debug.Stack prints
// the bytes of arguments as well, words of a key among them.
package stack

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// depth is more calls than any request or message makes here.
const depth = 32

// Trace names the functions and lines that led to its caller, one a line, the caller first.
func Trace() string {
	var calls [depth]uintptr
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls[:])])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s %s:%d\n", f.Function, filepath.Base(f.File), f.Line)
		if !more {
			return b.String()
		}
	}
}
