package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// stage is to this program what testing.T is to a test: the servers report to it what went wrong, and leave with it how
// they are stopped. Whatever happens, also a panic or a signal, what was started is stopped at the end.
type stage struct {
	dir     string
	verbose bool
	began   time.Time
	ctx     context.Context
	stop    context.CancelCauseFunc

	mu       sync.Mutex
	wrong    []string
	cleanups []func()
	dirs     int
}

var errFatal = errors.New("it cannot go on")

func newStage(ctx context.Context, dir string, verbose bool) *stage {
	st := &stage{dir: dir, verbose: verbose, began: time.Now()}
	st.ctx, st.stop = context.WithCancelCause(ctx)
	return st
}

// run calls f, and then what was left to be done by Cleanup, the last first.
func (st *stage) run(f func()) {
	defer st.stop(nil)
	st.together(f)
	for {
		st.mu.Lock()
		n := len(st.cleanups)
		if n == 0 {
			st.mu.Unlock()
			return
		}
		cleanup := st.cleanups[n-1]
		st.cleanups = st.cleanups[:n-1]
		st.mu.Unlock()
		st.together(cleanup)
	}
}

// together runs functions side by side and waits for all of them. One that fails ends the whole run, in good order.
func (st *stage) together(functions ...func()) {
	var wg sync.WaitGroup
	for _, f := range functions {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					st.Errorf("panic: %v\n%s", p, debug.Stack())
					st.stop(errFatal)
				}
			}()
			f()
		})
	}
	wg.Wait()
}

// findings is all that was wrong.
func (st *stage) findings() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.wrong)
}

func (st *stage) Helper()                  {}
func (st *stage) Context() context.Context { return st.ctx }

// Cleanup leaves something to be done at the end.
func (st *stage) Cleanup(f func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.cleanups = append(st.cleanups, f)
}

// TempDir makes a directory below that of the run.
func (st *stage) TempDir() string {
	st.mu.Lock()
	st.dirs++
	dir := filepath.Join(st.dir, fmt.Sprintf("t%d", st.dirs))
	st.mu.Unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		st.Fatal(err)
	}
	return dir
}

// Log says what happens, to whoever wants to know.
func (st *stage) Log(args ...any) {
	if st.verbose {
		fmt.Printf("%7.2fs %s\n", time.Since(st.began).Seconds(), fmt.Sprint(args...))
	}
}

// Error notes something that is wrong. The run goes on: there may be more.
func (st *stage) Error(args ...any) {
	// Ctrl-C goes to the servers too, and they may be quicker: that they end is no wonder then.
	sleep(st.ctx, 100*time.Millisecond)
	if st.ctx.Err() != nil && context.Cause(st.ctx) != errFatal {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	finding := fmt.Sprint(args...)
	st.wrong = append(st.wrong, finding)
	if st.verbose {
		fmt.Printf("%7.2fs WRONG: %s\n", time.Since(st.began).Seconds(), finding)
	}
}

// Fatal notes it and ends the run.
func (st *stage) Fatal(args ...any) {
	st.Error(args...)
	st.stop(errFatal)
	runtime.Goexit()
}

func (st *stage) Logf(format string, args ...any)   { st.Log(fmt.Sprintf(format, args...)) }
func (st *stage) Errorf(format string, args ...any) { st.Error(fmt.Sprintf(format, args...)) }
func (st *stage) Fatalf(format string, args ...any) { st.Fatal(fmt.Sprintf(format, args...)) }

// Skipf is fatal here: there is no run without all of its servers.
func (st *stage) Skipf(format string, args ...any) { st.Fatal(fmt.Sprintf(format, args...)) }

// Failed tells whether anything was wrong so far.
func (st *stage) Failed() bool { return len(st.findings()) > 0 }

// sleep waits, and returns false if ctx has ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
