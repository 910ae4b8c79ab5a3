package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/stack"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// state says how far a session's mail has come, which decides what a failure means: until the final
// dot is sent, what was stored is deleted; then the outcome is unknown until the next hop answers.
type state string

const (
	stateConnected state = "S0 connected"
	stateEnvelope  state = "S1 envelope"  // the next hop has a sender
	stateReceiving state = "S2 receiving" // we said 354: attachments are stored while they arrive
	stateReceived  state = "S3 received"  // the whole message was read, and all is stored
	stateSent      state = "S4 sent"      // the final dot was sent: the outcome is unknown
	stateAnswered  state = "S5 answered"  // the next hop has answered the final dot
)

// maxErrors is Postfix's smtpd_hard_error_limit: a client with so many bad commands is turned away.
const maxErrors = 20

// maxRecipientBytes bounds the recipients of a mail. Postfix's smtpd_recipient_limit is 1,000, and
// RFC 5321 section 4.5.3.1.8 asks for 100.
const maxRecipientBytes = 128 << 10

// session is one client and its connection to the next hop.
type session struct {
	server *Server
	log    *slog.Logger
	began  time.Time // when the client was accepted
	client *clientConn
	next   *nextHop

	state       state
	envelope    envelope
	limit       int64 // bytes of a message; 0: none
	resetDue    bool  // the next hop holds the envelope of a message that has ended here
	ending      bool  // the next answer is the last
	badCommands int   // replies of 500 to 504 since the last accepted mail
}

// envelope is the envelope of a session's next message.
type envelope struct {
	transaction.Envelope
	origin  origin // the connection that the mail came from
	refused int    // recipients
	size    int    // of all recipients' addresses
}

// run relays the session until the client or the next hop ends it, or ctx is done.
func (s *session) run(ctx context.Context) {
	defer s.client.close()
	defer func() {
		// A panic in one session must not end the others. Its value may contain the mail's text, so
		// only the type is logged. The connection closes without a reply: the client keeps the mail.
		if p := recover(); p != nil {
			s.log.Error("panic", "type", fmt.Sprintf("%T", p), "state", s.state, "stack", stack.Trace())
		}
	}()
	release := context.AfterFunc(ctx, func() { s.client.Close() })
	defer release()
	s.state, s.limit = stateConnected, s.server.cfg.MaxSize
	s.endEnvelope()

	next, greeting, err := connect(s.server.stopping, s.server.dial, s.server.cfg.Timeouts)
	if err != nil {
		s.log.Warn("next hop unavailable", "err", err)
		s.client.say(s.client.own(errNextHop))
		return
	}
	s.next = next
	defer giveBack(&lineReaders, next.in)
	defer next.close()
	releaseNext := context.AfterFunc(ctx, next.abandon)
	defer releaseNext()
	if !s.client.say(greeting) || !greeting.positive() {
		return
	}
	for s.step(ctx) {
	}
}

// step handles one command, and reports whether another may follow.
func (s *session) step(ctx context.Context) bool {
	var a answer
	line, err := s.client.command(s.server.stopping)
	if err == nil {
		a, err = s.handle(ctx, line)
	}
	if err != nil {
		a = s.client.own(reply(err))
	}
	if a.code >= 500 && a.code <= 504 {
		if s.badCommands++; s.badCommands >= maxErrors {
			a = s.client.own(errBadClient)
		}
	}
	if !s.client.say(a) || s.ending || a.closing() {
		return false
	}
	if s.resetDue {
		s.resetDue = false
		s.next.reset()
	}
	return true
}

// handle returns the answer to one command, which usually is the next hop's.
func (s *session) handle(ctx context.Context, line []byte) (answer, error) {
	fields := bytes.Fields(line)
	switch verb := string(bytes.ToUpper(fields[0])); verb {
	case "EHLO", "HELO":
		return s.hello(verb, line)
	case "XFORWARD":
		return s.xforward(line)
	case "MAIL":
		return s.mail(line)
	case "RCPT":
		return s.rcpt(line)
	case "DATA":
		return s.data(ctx, len(fields) > 1)
	case "RSET":
		a, err := s.relay(line)
		if a.positive() {
			s.endEnvelope()
		}
		return a, err
	case "QUIT":
		s.ending = true
		a, err := s.relay(line)
		if err != nil {
			a = s.client.own(newReply(221, smtp.EnhancedCode{2, 0, 0}, "Bye"))
		}
		return a, nil
	case "NOOP", "HELP", "VRFY", "EXPN", "ETRN":
		return s.relay(line)
	case "BDAT", "BURL", "CONNECT", "GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS":
		// The bytes that follow must not be read as commands: a chunk, or the header and the body of
		// an HTTP request. A web page can make a browser send one with commands in its body.
		s.ending = true
	}
	// Not relayed, as no keyword for it is offered (see filterEHLO). In reply to a command that we do
	// not know the next hop might begin a protocol that we do not speak: LMTP (LHLO, a reply for each
	// recipient), TLS, data without a final dot, a turned connection (TURN, ATRN), a session of
	// another client (XCLIENT), or a mail whose envelope we did not see (SEND, SOML, SAML).
	return answer{}, errNotOffered
}

// relay passes a command on verbatim, and returns the answer verbatim.
func (s *session) relay(line []byte) (answer, error) {
	a, err := s.next.command(line)
	if err == nil && !a.positive() && !a.negative() {
		err = s.next.lose(errBadReply) // the next hop expects more from the client than one command
	}
	if err != nil {
		s.log.Warn("next hop unavailable", "err", err)
		return answer{}, errNextHop
	}
	return a, nil
}

func (s *session) hello(verb string, line []byte) (answer, error) {
	limit := s.server.cfg.MaxSize
	if verb == "HELO" && limit == 0 {
		var err error
		if limit, err = s.askLimit(line); err != nil {
			return answer{}, err
		}
	}
	a, err := s.relay(line)
	if err != nil || !a.positive() {
		return a, err
	}
	s.endEnvelope() // RFC 5321 section 4.1.4
	s.limit = limit
	if verb == "EHLO" {
		a, s.limit = filterEHLO(a, s.limit)
	}
	return a, nil
}

// askLimit says EHLO to the next hop in place of a client that says HELO, whose answer names no
// limit. The client's HELO follows, and ends what EHLO has begun (RFC 5321 section 4.1.4).
func (s *session) askLimit(helo []byte) (int64, error) {
	name := bytes.TrimLeft(helo, " \t")[len("HELO"):]
	a, err := s.relay(slices.Concat([]byte("EHLO"), name))
	if err != nil || !a.positive() {
		return 0, err
	}
	_, limit := filterEHLO(a, 0)
	return limit, nil
}

func (s *session) xforward(line []byte) (answer, error) {
	a, err := s.relay(line)
	switch {
	case a.negative():
		s.log.Warn("next hop refuses XFORWARD, its log will name us as the client", "reply", a.code)
	case a.positive():
		s.envelope.origin.note(line)
		if addr, ok := forwardedAddr(line); ok {
			s.envelope.Client = addr
		}
	}
	return a, err
}

func (s *session) mail(line []byte) (answer, error) {
	if mark := s.server.cfg.LoopMark; mark != "" && bytes.Contains(line, []byte(mark)) {
		return answer{}, errSelf
	}
	sender := address(line)
	line, err := takeSize(line, s.limit)
	if err != nil {
		return answer{}, err
	}
	a, err := s.relayEnvelope(sender, line)
	if a.positive() {
		s.envelope.Sender, s.envelope.Recipients, s.envelope.refused, s.envelope.size = sender, nil, 0, 0
		s.enter(stateEnvelope)
	}
	return a, err
}

func (s *session) rcpt(line []byte) (answer, error) {
	recipient := address(line)
	if s.envelope.size += len(recipient); s.envelope.size > maxRecipientBytes {
		return answer{}, errManyRcpts
	}
	a, err := s.relayEnvelope(s.envelope.Sender, line)
	if a.positive() {
		s.envelope.Recipients = append(s.envelope.Recipients, recipient)
	} else {
		s.envelope.refused++
	}
	return a, err
}

func (s *session) data(ctx context.Context, parameter bool) (answer, error) {
	switch {
	case parameter:
		return answer{}, errDataParam
	case s.state != stateEnvelope || len(s.envelope.Recipients)+s.envelope.refused == 0:
		return answer{}, errNeedRcpt
	case len(s.envelope.Recipients) == 0:
		return answer{}, errNoRcpt
	}
	if !s.client.say(answer{354, []byte("354 End data with <CR><LF>.<CR><LF>\r\n")}) {
		return answer{}, errGone
	}
	s.enter(stateReceiving)
	v, err := s.receive(ctx)
	if v.positive() {
		s.badCommands = 0
	}
	s.resetDue = s.state != stateAnswered
	s.endEnvelope()
	return v.answer, err
}

// endEnvelope forgets the envelope and XFORWARD's client, as Postfix does.
func (s *session) endEnvelope() {
	s.enter(stateConnected)
	s.envelope = envelope{Envelope: transaction.Envelope{Listener: s.client.LocalAddr().String(), Client: ip(s.client.RemoteAddr())}}
}

func (s *session) enter(to state) {
	if s.state != to {
		s.state = to
		s.log.Debug("state", "state", to)
	}
}
