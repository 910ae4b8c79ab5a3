package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/spool"
)

// message is one mail on its way from the client's DATA to the next hop's answer.
type message struct {
	*session
	in      *incoming
	batch   Batch           // nil: nothing was stored for it
	storing context.Context // ends with the message, or when the store takes too long

	stopNoop  func()
	stopWatch func()
	deadline  *time.Timer // runs from the client's final dot
	settled   bool        // it is decided what becomes of the batch

	began    time.Time
	stats    rewrite.Stats
	out      int64
	passes   bool
	original bool // passed on unchanged, because storing failed
}

var (
	errSlow     = errors.New("not done in time for the client")
	errNotWhole = errors.New("message was not read to its end")
)

// receive takes the message that follows our 354 and returns the answer to its final dot. When it
// returns, the message was read to its real end, or the error says that the client is lost.
func (s *session) receive(ctx context.Context) (a answer, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Whatever cancels the message abandons what the next hop has of it.
	release := context.AfterFunc(ctx, s.next.abandon)
	defer release()

	buf := borrow(&dataReaders, nil)
	s.src = rebuffer(buf, s.in, s.src)
	defer func() {
		s.src = rebuffer(s.in, buf, s.src)
		giveBack(&dataReaders, buf)
	}()

	m := &message{session: s, began: time.Now(), stopWatch: func() {}}
	patience := s.cfg.Timeouts.Reply
	if s.cfg.OnFailure == Deliver {
		patience /= 2 // the other half is for the original
	}
	storing, giveUp := context.WithCancelCause(ctx)
	m.storing = storing
	m.in = newIncoming(buf, s.limit, patience, func() { giveUp(errSlow) })
	if s.cfg.OnFailure == Deliver {
		m.in.original = spool.New(s.cfg.Policy.TempDir)
	}
	m.in.atEnd = func() { m.watch(buf, cancel) }
	m.stopNoop = s.next.keepAwake(s.cfg.Timeouts.Noop, func(err error) { cancel(err) })
	defer m.end(ctx, &a) // after a panic too

	a, err = m.transfer(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil && s.next.inData {
		s.next.close() // at once, and without a final dot
	}
	m.settle(ctx, a)
	if lost := m.in.drain(); lost != nil {
		a, err = answer{}, lost
	}
	m.report(ctx, a, err)
	return a, err
}

// end leaves nothing of the message running, and nothing stored that belongs to no mail.
func (m *message) end(ctx context.Context, a *answer) {
	m.settle(ctx, *a)
	m.release()
	m.stopNoop()
	m.stopWatch()
	if m.deadline != nil {
		m.deadline.Stop()
	}
	m.in.close()
}

// transfer is the way of the message. S2: it comes in, and its attachments are stored. S3: all of
// it was read, and all of them are stored. S4: its links work, and the final dot is sent. S5: the
// next hop has answered.
func (m *message) transfer(ctx context.Context) (answer, error) {
	msg, err := rewrite.Read(m.in, m.cfg.Policy)
	if err != nil {
		return m.instead(ctx, err)
	}
	defer func() {
		m.stats = msg.Stats()
		msg.Close()
	}()
	if m.passes = msg.Passes(); m.passes {
		m.in.forget()
		return m.deliver(ctx, msg)
	}
	if err := m.detach(msg); err != nil {
		return m.instead(ctx, err)
	}
	return m.deliver(ctx, msg)
}

// detach reads the message to its end, storing its attachments as they arrive.
func (m *message) detach(msg *rewrite.Message) error {
	m.batch = m.server.begin()
	err := msg.Detach(m.storing, m.batch)
	if err == nil && !m.in.ended {
		err = errNotWhole
	}
	if m.storing.Err() != nil {
		return context.Cause(m.storing)
	}
	if err == nil {
		m.enter(stateReceived)
	}
	return err
}

// deliver hands the body over to the next hop: while it still comes in, if it passes.
func (m *message) deliver(ctx context.Context, body io.WriterTo) (answer, error) {
	m.stopNoop()
	w, refusal, err := m.next.data()
	if w == nil {
		return refusal, err
	}
	defer m.next.release(w)
	m.in.beforeWait = func() { w.Flush() } // the next hop waits no longer than we do
	m.out, err = body.WriteTo(w)
	if err != nil {
		return answer{}, err
	}
	if !m.in.ended {
		return answer{}, errNotWhole
	}
	if err := w.Flush(); err != nil {
		return answer{}, m.next.lose(err)
	}
	m.enter(stateReceived)
	// The last moment to promise the links, and so the least that a crash can leave promised to nobody.
	if m.batch != nil {
		if err := m.batch.Commit(ctx); err != nil {
			return answer{}, err
		}
	}
	m.stopWatch()
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	if refusal, err := m.next.unasked(); err != nil || refusal.negative() {
		return refusal, err
	}
	m.enter(stateSent)
	a, err := m.next.finish(w)
	if err == nil {
		m.enter(stateAnswered)
	}
	return a, err
}

// instead passes the original on when storing has failed and the configuration wants that. What
// failed must be ours: not the client, nor a message that is refused.
func (m *message) instead(ctx context.Context, cause error) (answer, error) {
	if m.in.original == nil || m.in.failed() || ctx.Err() != nil {
		return answer{}, cause
	}
	m.log.Warn("storing failed, passing the original on", "err", cause)
	m.discard(ctx)
	if _, err := io.Copy(io.Discard, m.in); err != nil {
		return answer{}, err
	}
	if m.in.original == nil {
		return answer{}, cause
	}
	m.original = true
	return m.deliver(ctx, m.in.original)
}

// watch begins at the client's final dot. From then on the client waits, and not for ever; and that
// it goes away is no longer seen by reading the message from it. It will send the message again
// then, so this one should not be delivered.
func (m *message) watch(buf *bufio.Reader, cancel context.CancelCauseFunc) {
	m.deadline = time.AfterFunc(m.cfg.Timeouts.Reply, func() { cancel(errSlow) })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// A byte is a pipelined command: the client has said what it wants, and may half-close.
		if _, err := buf.Peek(1); err != nil && !isTimeout(err) {
			cancel(clientError(err))
		}
	}()
	m.stopWatch = sync.OnceFunc(func() {
		m.client.interrupt()
		<-gone
		m.client.resume()
	})
}

// settle decides about what was stored. It is kept when the next hop has the message or may have
// it: a mail delivered twice is better than a link that leads nowhere.
func (m *message) settle(ctx context.Context, a answer) {
	if m.settled {
		return
	}
	m.settled = true
	delivered := m.state == stateAnswered && a.positive()
	unknown := m.state == stateSent
	if !delivered && !unknown {
		m.discard(ctx)
	}
}

func (m *message) discard(ctx context.Context) {
	if m.batch == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Timeouts.Discard)
	defer cancel()
	if err := m.batch.Discard(ctx); err != nil {
		m.log.Warn("stored attachments of a failed mail are not deleted yet", "err", err, "cids", m.batch.CIDs())
	}
	m.release()
}

// release is the batch's end, whatever became of it.
func (m *message) release() {
	if m.batch == nil {
		return
	}
	if err := m.batch.Close(); err != nil {
		m.log.Warn("the record of what a mail stores", "err", err)
	}
	m.batch = nil
}

// report is the one log line of a message.
func (m *message) report(ctx context.Context, a answer, err error) {
	level, code := slog.LevelInfo, a.code
	if err != nil {
		level, code = slog.LevelWarn, reply(err).Code
	}
	attrs := []any{
		"reply", code, "duration", time.Since(m.began).Round(time.Millisecond),
		"in", m.in.size, "out", m.out, "passes", m.passes,
	}
	if m.batch != nil {
		attrs = append(attrs, "attachments", m.stats.Detached, "detached", m.stats.Bytes, "cids", m.batch.CIDs())
	} else {
		attrs = append(attrs, "attachments", 0, "detached", 0)
	}
	if m.original {
		attrs = append(attrs, "original", true)
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	m.log.Log(ctx, level, "message", attrs...)
	if m.cfg.Observe != nil {
		m.cfg.Observe(m.outcome(a, err))
	}
}
