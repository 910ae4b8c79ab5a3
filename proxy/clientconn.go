package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/emersion/go-smtp"
)

// clientConn is the client's side of a session: commands and messages come from it, and answers go
// to it.
type clientConn struct {
	*conn
	hostname string // ours, in a 421

	src   io.Reader     // the source of lines: what a message has left over, and then the connection
	lines *bufio.Reader // commands
}

func newClientConn(c *conn, hostname string) *clientConn {
	return &clientConn{conn: c, hostname: hostname, src: c, lines: borrow(&lineReaders, c)}
}

// close closes the connection and gives the buffer back.
func (c *clientConn) close() {
	c.conn.Close()
	giveBack(&lineReaders, c.lines)
}

// command waits for the client's next line. It fails when stopping ends: the server shuts down.
func (c *clientConn) command(stopping context.Context) ([]byte, error) {
	release := context.AfterFunc(stopping, c.interrupt)
	line, err := readLine(c.lines)
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

// lendInput lends a buffer for message data to what the client sends, until takeBackInput.
func (c *clientConn) lendInput() *bufio.Reader {
	buf := borrow(&dataReaders, nil)
	c.src = rebuffer(buf, c.lines, c.src)
	return buf
}

func (c *clientConn) takeBackInput(buf *bufio.Reader) {
	c.src = rebuffer(c.lines, buf, c.src)
	giveBack(&dataReaders, buf)
}

// say sends an answer, and reports whether it could be sent.
func (c *clientConn) say(a answer) bool {
	_, err := c.Write(a.text)
	return err == nil
}

// own returns a reply of ours as an answer.
func (c *clientConn) own(e *smtp.SMTPError) answer { return ownAnswer(e, c.hostname) }
