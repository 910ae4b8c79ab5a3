// Package stack says where a panic came from, and this holds: a trace has no arguments of
// functions. debug.Stack prints the bytes of arguments, which may be part of a key.
package stack

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// depth bounds a trace. The stack of a request or of a message has fewer calls.
const depth = 32

// Trace returns the functions on the stack with file and line, one on each line, the caller first.
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
