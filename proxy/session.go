package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/stack"
)

// state is how far a session's current mail has come. It decides what a failure means: before the
// final dot is sent nothing has happened, so what was stored is deleted; then nobody knows; then
// the next hop's answer decides.
type state string

const (
	stateConnected state = "S0 connected"
	stateEnvelope  state = "S1 envelope"  // the next hop has a sender
	stateReceiving state = "S2 receiving" // we said 354: attachments are stored while the message comes
	stateReceived  state = "S3 received"  // the whole message was read, all is stored, its links work
	stateSent      state = "S4 sent"      // the final dot was sent: the outcome is unknown
	stateAnswered  state = "S5 answered"  // the next hop has answered the final dot
)

// maxErrors is Postfix's smtpd_hard_error_limit: a client that is refused as often does not speak SMTP.
const maxErrors = 20

// session is one client and its connection to the next hop.
type session struct {
	server *Server
	cfg    *Config
	log    *slog.Logger

	client *conn
	src    io.Reader     // what in reads from: the client, and before it what a message has left
	in     *bufio.Reader // commands
	next   *nextHop

	state    state
	accepted int   // recipients
	refused  int   // recipients
	limit    int64 // bytes of a message; 0: none
	stale    bool  // the next hop holds an envelope whose message has ended here
	over     bool  // nothing follows the next answer
	faults   int   // commands that were none
}

// run relays the session. It ends with its client, its next hop, or ctx.
func (s *session) run(ctx context.Context) {
	defer s.client.Close()
	defer func() {
		// One session's fault must not take the others' mail down. The value may hold what was
		// read, so only its type is logged. Closed without a reply, the client keeps the mail.
		if p := recover(); p != nil {
			s.log.Error("panic", "type", fmt.Sprintf("%T", p), "state", s.state, "stack", stack.Trace())
		}
	}()
	release := context.AfterFunc(ctx, func() { s.client.Close() })
	defer release()
	s.src, s.state, s.limit = s.client, stateConnected, s.cfg.MaxSize
	s.in = borrow(&lineReaders, s.client)
	defer giveBack(&lineReaders, s.in)

	next, greeting, err := connect(s.server.stopping, s.server.dial, s.cfg.Timeouts)
	if err != nil {
		s.log.Warn("next hop unavailable", "err", err)
		s.say(s.own(errNextHop))
		return
	}
	s.next = next
	defer giveBack(&lineReaders, next.in)
	defer next.close()
	releaseNext := context.AfterFunc(ctx, next.abandon)
	defer releaseNext()
	if !s.say(greeting) || !greeting.positive() {
		return
	}
	for s.step(ctx) {
	}
}

// step carries one command and its answer, and tells whether another may follow.
func (s *session) step(ctx context.Context) bool {
	var a answer
	line, err := s.readCommand()
	if err == nil {
		a, err = s.handle(ctx, line)
	}
	if err != nil {
		a = s.own(reply(err))
	}
	if a.code >= 500 && a.code <= 504 {
		if s.faults++; s.faults >= maxErrors {
			a = s.own(errBadClient)
		}
	}
	if !s.say(a) || s.over || a.closing() {
		return false
	}
	if s.stale {
		s.stale = false
		s.next.reset()
	}
	return true
}

// readCommand waits for the client's next line. Shutting down ends the wait.
func (s *session) readCommand() ([]byte, error) {
	release := context.AfterFunc(s.server.stopping, s.client.interrupt)
	line, err := readLine(s.in)
	if !release() {
		return nil, errStopping
	}
	switch {
	case errors.Is(err, errLongLine):
		return nil, errNotSMTP
	case errors.Is(err, errEndlessLine):
		return nil, err
	case err != nil:
		return nil, clientError(err)
	case bytes.ContainsAny(line, "\x00\r") || len(bytes.TrimSpace(line)) == 0:
		return nil, errNotSMTP
	}
	return line, nil
}

// handle answers one command: most of them with the next hop's answer.
func (s *session) handle(ctx context.Context, line []byte) (answer, error) {
	fields := bytes.Fields(line)
	switch verb := string(bytes.ToUpper(fields[0])); verb {
	case "EHLO", "HELO":
		return s.hello(verb, line)
	case "MAIL":
		return s.mail(line)
	case "RCPT":
		a, err := s.relay(line)
		if a.positive() {
			s.accepted++
		} else {
			s.refused++
		}
		return a, err
	case "DATA":
		return s.data(ctx, len(fields) > 1)
	case "RSET":
		a, err := s.relay(line)
		if a.positive() {
			s.endEnvelope()
		}
		return a, err
	case "QUIT":
		s.over = true
		a, err := s.relay(line)
		if err != nil {
			a = s.own(newReply(221, smtp.EnhancedCode{2, 0, 0}, "Bye"))
		}
		return a, nil
	case "XFORWARD":
		a, err := s.relay(line)
		if a.negative() {
			s.log.Warn("next hop refuses XFORWARD, its log will name us as the client", "reply", a.code)
		}
		return a, err
	case "BDAT":
		s.over = true // a chunk follows, which must not be read as commands
		return answer{}, errNotOffered
	case "STARTTLS", "AUTH":
		return answer{}, errNotOffered
	default:
		return s.relay(line)
	}
}

// relay passes a command on as it was said, and returns the answer as it was given.
func (s *session) relay(line []byte) (answer, error) {
	a, err := s.next.command(line)
	if err == nil && !a.positive() && !a.negative() {
		// It waits for something that we know nothing about.
		err = s.next.lose(errBadReply)
	}
	if err != nil {
		s.log.Warn("next hop unavailable", "err", err)
		return answer{}, errNextHop
	}
	return a, nil
}

func (s *session) hello(verb string, line []byte) (answer, error) {
	a, err := s.relay(line)
	if err != nil || !a.positive() {
		return a, err
	}
	s.endEnvelope() // RFC 5321 section 4.1.4
	s.limit = s.cfg.MaxSize
	if verb == "EHLO" {
		a, s.limit = filterEHLO(a, s.cfg.MaxSize)
	}
	return a, nil
}

func (s *session) mail(line []byte) (answer, error) {
	line, err := takeSize(line, s.limit)
	if err != nil {
		return answer{}, err
	}
	a, err := s.relay(line)
	if a.positive() {
		s.endEnvelope()
		s.enter(stateEnvelope)
	}
	return a, err
}

func (s *session) data(ctx context.Context, parameter bool) (answer, error) {
	switch {
	case parameter:
		return answer{}, errDataParam
	case s.state != stateEnvelope || s.accepted+s.refused == 0:
		return answer{}, errNeedRcpt
	case s.accepted == 0:
		return answer{}, errNoRcpt
	}
	if !s.say(answer{354, []byte("354 End data with <CR><LF>.<CR><LF>\r\n")}) {
		return answer{}, errGone
	}
	s.enter(stateReceiving)
	a, err := s.receive(ctx)
	if a.positive() {
		s.faults = 0
	}
	s.stale = s.state != stateAnswered
	s.endEnvelope()
	return a, err
}

func (s *session) endEnvelope() {
	s.enter(stateConnected)
	s.accepted, s.refused = 0, 0
}

func (s *session) enter(to state) {
	if s.state != to {
		s.state = to
		s.log.Debug("state", "state", to)
	}
}

// say sends an answer. If it cannot be sent, the session is over.
func (s *session) say(a answer) bool {
	_, err := s.client.Write(a.text)
	return err == nil
}

func (s *session) own(e *smtp.SMTPError) answer { return ownAnswer(e, s.cfg.Hostname) }
