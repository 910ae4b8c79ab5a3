package proxy

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// message is one mail on its way from the client's DATA to the next hop's answer to the final dot.
type message struct {
	mail  *transaction.Transaction
	in    *incoming
	next  *nextHop
	watch *watch
	enter func(state)
	reply time.Duration // Timeouts.Reply
}

var errSlow = errors.New("not done in time for the client")

// receive takes the message that follows our 354 and returns the verdict on it. When it returns,
// the message was read to its real end, or the error says that the client is lost.
//
// Only the message's context ends it early: canceling the context closes the connection to the next
// hop, which abandons what the next hop has of the message.
func (s *session) receive(ctx context.Context) (v verdict, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	release := context.AfterFunc(ctx, s.next.abandon)
	defer release()
	buf := s.lendInput()
	defer s.takeBackInput(buf)
	w := &watch{end: end, client: s.client, input: buf, limit: s.cfg.Timeouts.Reply, leaveClient: func() {}}
	w.keepAwake(s.next, s.cfg.Timeouts.Noop)
	defer w.stop()

	in := &incoming{dots: newDotReader(buf), limit: s.limit, atEnd: w.clientWaits}
	mail := transaction.Begin(s.cfg.Mail, s.envelope, in, s.log)
	defer mail.Close(ctx)
	m := &message{mail: mail, in: in, next: s.next, watch: w, enter: s.enter, reply: s.cfg.Timeouts.Reply}
	began := time.Now()
	v, err = m.transfer(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil && s.next.inData {
		s.next.close() // before the rest is read, and without a final dot
	}
	mail.Settle(ctx, v.fate())
	if lost := in.drain(); lost != nil {
		v, err = verdict{}, lost
	}
	s.report(ctx, mail, v, err, time.Since(began))
	return v, err
}

// lendInput lends a buffer for message data to what the client sends, until takeBackInput.
func (s *session) lendInput() *bufio.Reader {
	buf := borrow(&dataReaders, nil)
	s.src = rebuffer(buf, s.in, s.src)
	return buf
}

func (s *session) takeBackInput(buf *bufio.Reader) {
	s.src = rebuffer(s.in, buf, s.src)
	giveBack(&dataReaders, buf)
}

// transfer takes the message to the next hop. S2: its attachments are stored while it arrives. S3:
// all is read and stored. A message that passes goes on to the next hop in S2.
func (m *message) transfer(ctx context.Context) (verdict, error) {
	if err := m.mail.Receive(ctx, m.reply); err != nil {
		return verdict{}, err
	}
	if !m.mail.Passes() {
		m.enter(stateReceived)
	}
	m.watch.stopNoops()
	w, refusal, err := m.next.data()
	if w == nil {
		return verdict{answer: refusal}, err
	}
	defer m.next.release(w)
	m.in.sink = w
	if _, err := m.mail.WriteTo(w); err != nil {
		return verdict{}, err
	}
	if err := w.Flush(); err != nil {
		return verdict{}, m.next.lose(err)
	}
	m.enter(stateReceived)
	return m.finish(ctx, w)
}

// finish ends a message of which the next hop has everything but the end. S4: the links work, and
// the final dot is sent. S5: the next hop has answered.
func (m *message) finish(ctx context.Context, w *dotWriter) (verdict, error) {
	if err := m.mail.Commit(ctx); err != nil {
		return verdict{}, err
	}
	m.watch.leaveClient()
	if err := ctx.Err(); err != nil {
		return verdict{}, err
	}
	if refusal, err := m.next.early(); err != nil || refusal.negative() {
		return verdict{answer: refusal}, err
	}
	m.enter(stateSent)
	v, err := m.next.finish(w)
	if err == nil {
		m.enter(stateAnswered)
	}
	return v, err
}

// report writes the one log line of a message, and tells Config.Observe.
func (s *session) report(ctx context.Context, mail *transaction.Transaction, v verdict, err error, took time.Duration) {
	level, code := slog.LevelInfo, v.code
	if err != nil {
		level, code = slog.LevelWarn, reply(err).Code
	}
	o := mail.Outcome(err)
	attrs := []any{
		"reply", code, "duration", took.Round(time.Millisecond), "in", o.In, "out", o.Out,
		"passes", mail.Passes(), "attachments", o.Attachments, "detached", o.Bytes,
	}
	if len(o.CIDs) > 0 {
		attrs = append(attrs, "cids", o.CIDs)
	}
	if o.Result == transaction.ResultOriginal {
		attrs = append(attrs, "original", true)
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	s.log.Log(ctx, level, "message", attrs...)
	if s.cfg.Observe != nil {
		s.cfg.Observe(o, code)
	}
}
