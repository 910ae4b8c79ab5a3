package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Program is to a program what testing.T is to a test: the servers report their errors to it and
// register how they are stopped. At the end, also after a panic or a signal, they are stopped.
type Program struct {
	Dir   string // of the run
	began time.Time
	log   io.Writer
	ctx   context.Context
	stop  context.CancelCauseFunc

	mu       sync.Mutex
	wrong    []error
	cleanups []func()
}

var errFatal = errors.New("it cannot go on")

// Perform calls f, then stops what f has started, the last first, and returns all errors. It logs
// what happens to log.
func Perform(ctx context.Context, dir string, log io.Writer, f func(*Program)) []error {
	p := &Program{Dir: dir, began: time.Now(), log: log}
	p.ctx, p.stop = context.WithCancelCause(ctx)
	defer p.stop(nil)
	p.Together(func() { f(p) })
	for {
		cleanup := p.lastCleanup()
		if cleanup == nil {
			return p.Findings()
		}
		p.Together(cleanup)
	}
}

func (p *Program) lastCleanup() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.cleanups)
	if n == 0 {
		return nil
	}
	last := p.cleanups[n-1]
	p.cleanups = p.cleanups[:n-1]
	return last
}

// Together runs functions side by side and waits for all of them. A panic in one ends the run, and
// the cleanups are called.
func (p *Program) Together(functions ...func()) {
	var wg sync.WaitGroup
	for _, f := range functions {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					p.Errorf("panic: %v\n%s", v, debug.Stack())
					p.stop(errFatal)
				}
			}()
			f()
		})
	}
	wg.Wait()
}

// Findings returns all errors so far.
func (p *Program) Findings() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wrong)
}

// Helper does nothing, since a program reports no lines.
func (p *Program) Helper() {}

// Context returns a context that ends when the run must end.
func (p *Program) Context() context.Context { return p.ctx }

// Cleanup registers a function to be called at the end.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// TempDir makes a directory below Dir. It stays if there was an error.
func (p *Program) TempDir() string {
	dir, err := os.MkdirTemp(p.Dir, "run")
	Must(p, err)
	p.Cleanup(func() {
		if !p.Failed() {
			os.RemoveAll(dir)
		}
	})
	return dir
}

// Log writes a line with the time since the start.
func (p *Program) Log(args ...any) {
	fmt.Fprintf(p.log, "%7.2fs %s\n", time.Since(p.began).Seconds(), fmt.Sprint(args...))
}

// Error notes an error. The run goes on, and may find more.
func (p *Program) Error(args ...any) {
	// Ctrl-C ends the servers too, perhaps before this context. Then their end is expected.
	Sleep(p.ctx, 100*time.Millisecond)
	if p.ctx.Err() != nil && context.Cause(p.ctx) != errFatal {
		return
	}
	finding := errors.New(fmt.Sprint(args...))
	p.mu.Lock()
	p.wrong = append(p.wrong, finding)
	p.mu.Unlock()
	p.Log("WRONG: ", finding)
}

// Fatal is Error, and ends the run.
func (p *Program) Fatal(args ...any) {
	p.Error(args...)
	p.stop(errFatal)
	runtime.Goexit()
}

// Logf is Log with a format, as Errorf and Fatalf are Error and Fatal.
func (p *Program) Logf(format string, args ...any)   { p.Log(fmt.Sprintf(format, args...)) }
func (p *Program) Errorf(format string, args ...any) { p.Error(fmt.Sprintf(format, args...)) }
func (p *Program) Fatalf(format string, args ...any) { p.Fatal(fmt.Sprintf(format, args...)) }

// Skipf is Fatalf, since a run needs all its servers.
func (p *Program) Skipf(format string, args ...any) { p.Fatalf(format, args...) }

// Failed reports whether there was an error so far.
func (p *Program) Failed() bool { return len(p.Findings()) > 0 }

// Sleep waits, and reports whether ctx outlived the wait.
func Sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
