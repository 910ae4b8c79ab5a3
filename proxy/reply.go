package proxy

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
)

// Our own replies. The log has the cause; the client is told a fixed sentence.
var (
	errTemporary   = newReply(451, smtp.EnhancedCode{4, 3, 0}, "Temporary failure, please try again later")
	errNoSpace     = newReply(451, smtp.EnhancedCode{4, 3, 1}, "Not enough space, please try again later")
	errTooBig      = newReply(552, smtp.EnhancedCode{5, 3, 4}, "Message size exceeds the limit")
	errLoop        = newReply(554, smtp.EnhancedCode{5, 4, 6}, "Too many hops")
	errSelf        = newReply(554, smtp.EnhancedCode{5, 4, 6}, "Mail loop: this is Detach")
	errLoopsBack   = newReply(451, smtp.EnhancedCode{4, 4, 6}, "Mail loops back to this server, please try again later")
	errManyRcpts   = newReply(452, smtp.EnhancedCode{4, 5, 3}, "Too many recipients")
	errSenderLimit = newReply(451, smtp.EnhancedCode{4, 7, 1}, "Sender has reached the limit for attachments today")
	errBadSize     = newReply(501, smtp.EnhancedCode{5, 5, 4}, "Bad SIZE parameter")
	errNotSMTP     = newReply(500, smtp.EnhancedCode{5, 5, 2}, "Not a command")
	errDataParam   = newReply(501, smtp.EnhancedCode{5, 5, 4}, "DATA takes no parameter")
	errNotOffered  = newReply(502, smtp.EnhancedCode{5, 5, 1}, "Command not implemented")
	errNeedRcpt    = newReply(503, smtp.EnhancedCode{5, 5, 1}, "Need MAIL and RCPT first")
	errNoRcpt      = newReply(554, smtp.EnhancedCode{5, 5, 1}, "No valid recipients")
	errNextHop     = newReply(421, smtp.EnhancedCode{4, 3, 0}, "Next hop unavailable, please try again later")
	errBusy        = newReply(421, smtp.EnhancedCode{4, 3, 2}, "Too many sessions, please try again later")
	errStopping    = newReply(421, smtp.EnhancedCode{4, 3, 2}, "Service shutting down")
	errStalled     = newReply(421, smtp.EnhancedCode{4, 4, 2}, "Timeout, closing connection")
	errGone        = newReply(421, smtp.EnhancedCode{4, 4, 2}, "Connection lost")
	errEndlessLine = newReply(421, smtp.EnhancedCode{4, 7, 0}, "Line too long, closing connection")
	errBadClient   = newReply(421, smtp.EnhancedCode{4, 7, 0}, "Too many errors, closing connection")
)

func newReply(code int, enhanced smtp.EnhancedCode, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

// reply returns what the client is told about a failure. Only a failure that is known to be
// permanent gets a 5xx: any that we did not foresee is a 451, and the sender keeps the mail.
func reply(err error) *smtp.SMTPError {
	if own := (*smtp.SMTPError)(nil); errors.As(err, &own) {
		return own
	}
	if errors.Is(err, freespace.ErrLow) {
		return errNoSpace
	}
	if errors.Is(err, transaction.ErrSenderLimit) {
		return errSenderLimit
	}
	return errTemporary
}

// answer is a reply as it goes over the wire: the next hop's, verbatim, or ours.
type answer struct {
	code int
	text []byte // all its lines, each with CRLF
}

// ownAnswer writes a reply of ours. A 421 names the host (RFC 5321 section 4.2.3).
func ownAnswer(e *smtp.SMTPError, hostname string) answer {
	c, text := e.EnhancedCode, e.Message
	if e.Code == 421 {
		text = hostname + " " + text
	}
	return answer{e.Code, fmt.Appendf(nil, "%d %d.%d.%d %s\r\n", e.Code, c[0], c[1], c[2], text)}
}

func (a answer) positive() bool { return a.code/100 == 2 }
func (a answer) negative() bool { return a.code/100 == 4 || a.code/100 == 5 }

// closing reports whether the connection ends with this answer (RFC 5321 section 3.8).
func (a answer) closing() bool { return a.code == 421 || a.code == 221 }

// maxReplyLines bounds a reply. Postfix's answer to EHLO has about fifteen lines.
const maxReplyLines = 100

var errBadReply = errors.New("next hop's reply is not SMTP")

// readAnswer reads a reply of one or several lines (RFC 5321 section 4.2.1). Its text may be 8-bit.
// A reply whose lines have different codes is errBadReply.
func readAnswer(r *bufio.Reader) (answer, error) {
	var a answer
	for range maxReplyLines {
		line, err := readLine(r)
		if err != nil {
			return answer{}, err
		}
		code, more, ok := parseReplyLine(line)
		if !ok || a.code != 0 && a.code != code {
			return answer{}, errBadReply
		}
		a.code = code
		a.text = append(append(a.text, line...), crlf...)
		if !more {
			return a, nil
		}
	}
	return answer{}, errBadReply
}

func parseReplyLine(line []byte) (code int, more, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		code = code*10 + int(c-'0')
	}
	return code, len(line) > 3 && line[3] == '-', code >= 200 && code < 600
}
