package proxy

import (
	"context"
	"errors"
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
	buf := s.client.lendInput()
	defer s.client.takeBackInput(buf)
	cfg := &s.server.cfg
	w := &watch{end: end, client: s.client.conn, input: buf, limit: cfg.Timeouts.Reply, leaveClient: func() {}}
	w.keepAwake(s.next, cfg.Timeouts.Noop)
	defer w.stop()

	in := &incoming{dots: newDotReader(buf), limit: s.limit, atEnd: w.clientWaits}
	mail := transaction.Begin(cfg.Mail, s.envelope.Envelope, in, s.log)
	defer mail.Close(ctx)
	m := &message{mail: mail, in: in, next: s.next, watch: w, enter: s.enter, reply: cfg.Timeouts.Reply}
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
	r := newReport(mail, v, err, time.Since(began))
	r.log(ctx, s.log)
	if cfg.Observe != nil {
		cfg.Observe(r.outcome, r.code)
	}
	return v, err
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
