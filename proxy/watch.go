package proxy

import (
	"bufio"
	"context"
	"sync"
	"time"
)

// watch observes one message and ends the message when it is of no use to go on:
//
//	from 354 to DATA               the next hop must stay awake and connected: NOOP
//	from the client's final dot    our answer must be there within the time that a client waits
//	from there to our final dot    the client must stay: it would send the message again
//
// A fourth limit is Transaction.Receive's patience with the store.
type watch struct {
	end    context.CancelCauseFunc // of the message
	client *conn
	input  *bufio.Reader // what the client says after its final dot
	limit  time.Duration // from the client's final dot to our answer

	deadline    *time.Timer // nil: the client has not sent its final dot
	stopNoops   func()      // stops the NOOPs, so that the caller may use the next hop
	leaveClient func()      // stops reading from the client
}

// stop ends everything that the watch runs.
func (w *watch) stop() {
	w.stopNoops()
	w.leaveClient()
	if w.deadline != nil {
		w.deadline.Stop()
	}
}

// keepAwake says NOOP from time to time: the next hop hears nothing else while a slow client sends.
func (w *watch) keepAwake(next *nextHop, every time.Duration) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if err := next.noop(); err != nil {
				w.end(err)
				return
			}
		}
	}()
	w.stopNoops = sync.OnceFunc(func() {
		close(quit)
		<-done
	})
}

// clientWaits is called at the client's final dot. A client that then leaves or waits for too long
// will send the message again, so this one ends.
func (w *watch) clientWaits() {
	w.deadline = time.AfterFunc(w.limit, func() { w.end(errSlow) })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// A byte is a pipelined command: the client has said what it wants, and may half-close.
		if _, err := w.input.Peek(1); err != nil && !isTimeout(err) {
			w.end(clientError(err))
		}
	}()
	w.leaveClient = sync.OnceFunc(func() {
		w.client.interrupt()
		<-gone
		w.client.resume()
	})
}
