package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
)

// stage is to this program what testing.T is to a test: the servers report to it what went wrong, and leave with it how they
// are stopped.
type stage struct {
	dir string
	ctx context.Context

	mu       sync.Mutex
	wrong    []error
	cleanups []func()
}

// perform calls f with a stage, then stops what was started on it, the last first, and returns what went wrong.
func perform(ctx context.Context, dir string, f func(*stage)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st := &stage{dir: dir, ctx: ctx}
	st.alone(func() { f(st) })
	for _, cleanup := range slices.Backward(st.cleanups) {
		st.alone(cleanup)
	}
	return errors.Join(st.wrong...)
}

// alone calls f on a goroutine that Fatal may end.
func (st *stage) alone(f func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Wait()
}

func (st *stage) Helper()                  {}
func (st *stage) Context() context.Context { return st.ctx }

func (st *stage) Cleanup(f func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.cleanups = append(st.cleanups, f)
}

func (st *stage) TempDir() string {
	dir, err := os.MkdirTemp(st.dir, "row")
	if err != nil {
		st.Fatal(err)
	}
	st.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Log shows that there is progress.
func (st *stage) Log(args ...any) { fmt.Fprintln(os.Stderr, args...) }

// Error notes that something is wrong.
func (st *stage) Error(args ...any) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.wrong = append(st.wrong, errors.New(fmt.Sprint(args...)))
}

// Fatal notes it and ends what is done on this stage.
func (st *stage) Fatal(args ...any) {
	st.Error(args...)
	runtime.Goexit()
}

func (st *stage) Logf(format string, args ...any)   { st.Log(fmt.Sprintf(format, args...)) }
func (st *stage) Errorf(format string, args ...any) { st.Error(fmt.Sprintf(format, args...)) }
func (st *stage) Fatalf(format string, args ...any) { st.Fatal(fmt.Sprintf(format, args...)) }

// Skipf says what is missing for a row: then it is not measured.
func (st *stage) Skipf(format string, args ...any) { st.Fatalf(format, args...) }

func (st *stage) Failed() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.wrong) > 0
}
