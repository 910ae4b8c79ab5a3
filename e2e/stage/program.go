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

// Program is to a program what testing.T is to a test: the servers report to it what went wrong,
// and leave with it how they are stopped. Whatever happens, also a panic or a signal, what was
// started is stopped at the end.
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

// Perform calls f, then stops what f has started, the last first, and returns everything that went
// wrong. What happens meanwhile is written to log.
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

// Together runs functions side by side and waits for all of them. One that panics ends the whole
// run, in good order.
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

// Findings is everything that was wrong so far.
func (p *Program) Findings() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wrong)
}

// Helper does nothing: a program has no test lines to name.
func (p *Program) Helper() {}

// Context ends when the run must.
func (p *Program) Context() context.Context { return p.ctx }

// Cleanup leaves something to be done at the end.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// TempDir makes a directory below that of the run. If something went wrong it stays, to be looked
// at.
func (p *Program) TempDir() string {
	dir, err := os.MkdirTemp(p.Dir, "run")
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if !p.Failed() {
			os.RemoveAll(dir)
		}
	})
	return dir
}

// Log says what happens.
func (p *Program) Log(args ...any) {
	fmt.Fprintf(p.log, "%7.2fs %s\n", time.Since(p.began).Seconds(), fmt.Sprint(args...))
}

// Error notes something that is wrong. The run goes on: there may be more.
func (p *Program) Error(args ...any) {
	// Ctrl-C ends the servers too, perhaps before it ends this context. Their end is no finding
	// then.
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

// Fatal notes it and ends the run.
func (p *Program) Fatal(args ...any) {
	p.Error(args...)
	p.stop(errFatal)
	runtime.Goexit()
}

// Logf is Log with a format, as Errorf and Fatalf are Error and Fatal.
func (p *Program) Logf(format string, args ...any)   { p.Log(fmt.Sprintf(format, args...)) }
func (p *Program) Errorf(format string, args ...any) { p.Error(fmt.Sprintf(format, args...)) }
func (p *Program) Fatalf(format string, args ...any) { p.Fatal(fmt.Sprintf(format, args...)) }

// Skipf is fatal: there is no run without all of its servers.
func (p *Program) Skipf(format string, args ...any) { p.Fatalf(format, args...) }

// Failed reports whether anything was wrong so far.
func (p *Program) Failed() bool { return len(p.Findings()) > 0 }

// Sleep waits, and returns false if ctx has ended before.
func Sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
