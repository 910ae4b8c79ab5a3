// Package stack says where a panic came from, and this holds: no argument of a function is printed.
// debug.Stack prints the bytes of arguments, which may be part of a key.
package stack

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// depth is more calls than a request or a message has on its stack.
const depth = 32

// Trace returns the functions and lines on the stack, one in each line, its caller first.
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
