package servers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Client speaks SMTP as raw lines, so that a test can send anything and sees the raw replies.
type Client struct {
	net.Conn
	r *bufio.Reader
}

// Dial connects from the given loopback address ("" for the usual one) and reads the greeting.
func Dial(addr, from string) (*Client, error) {
	d := net.Dialer{Timeout: Patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Client{Conn: conn, r: bufio.NewReader(conn)}
	reply, err := c.Reply()
	if err == nil && reply[0] != '2' {
		err = errors.New("no welcome")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting %q: %w", reply, err)
	}
	return c, nil
}

// longestReply is more than any server here takes to reply.
const longestReply = 5 * time.Minute

// Reply reads one reply, all its lines, without the last line end.
func (c *Client) Reply() (string, error) {
	var reply strings.Builder
	for {
		c.SetReadDeadline(time.Now().Add(longestReply))
		line, err := c.r.ReadString('\n')
		reply.WriteString(line)
		if err != nil {
			return reply.String(), fmt.Errorf("reply cut short: %w", err)
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(reply.String(), "\r\n"), nil
		}
	}
}

// Cmd sends a line and reads the reply to it.
func (c *Client) Cmd(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(c, format+"\r\n", args...); err != nil {
		return "", err
	}
	return c.Reply()
}

// Message is one mail on its way in.
type Message struct {
	From, To string // without <>
	Args     string // MAIL's parameters
	Data     io.Reader
}

// Begin sends the commands before a mail's data and returns the last reply: 354 if all went well.
func (c *Client) Begin(m Message) (reply string, err error) {
	for _, line := range []string{"EHLO client.example", strings.TrimSpace("MAIL FROM:<" + m.From + "> " + m.Args), "RCPT TO:<" + m.To + ">", "DATA"} {
		reply, err = c.Cmd("%s", line)
		if err != nil || reply[0] > '3' {
			break
		}
	}
	return reply, err
}

// Send gives a mail to the server and returns the reply that decided its fate. An error is a broken
// connection.
func (c *Client) Send(m Message) (string, error) {
	if reply, err := c.Begin(m); err != nil || reply[0] > '3' {
		return reply, err
	}
	if err := c.Finish(m); err != nil {
		return "", err
	}
	return c.Reply()
}

// Finish sends a mail's data and the final dot, and does not read the reply. If m.Data fails, the
// server gets the data read so far, and no dot.
func (c *Client) Finish(m Message) error {
	w := bufio.NewWriterSize(c, 256<<10)
	err := stuff(w, m.Data)
	return errors.Join(err, w.Flush())
}

// stuff writes a message whose lines end in CRLF, with its dots doubled, and the final dot.
func stuff(w *bufio.Writer, src io.Reader) error {
	r := bufio.NewReaderSize(src, 256<<10)
	start := true
	for {
		chunk, err := r.ReadSlice('\n')
		if start && len(chunk) > 0 && chunk[0] == '.' {
			w.WriteByte('.')
		}
		w.Write(chunk)
		if len(chunk) > 0 {
			start = strings.HasSuffix(string(chunk[max(0, len(chunk)-2):]), "\r\n")
		}
		if err == io.EOF {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
	if !start {
		w.WriteString("\r\n")
	}
	_, err := w.WriteString(".\r\n")
	return err
}

// Want reads a reply and checks that it begins with a code.
func (c *Client) Want(t T, code string) {
	t.Helper()
	if reply, err := c.Reply(); err != nil || !strings.HasPrefix(reply, code+" ") {
		t.Errorf("got %q, %v, want %s", reply, err, code)
	}
}

// Connect is Dial for a test: the client is closed when the test ends.
func Connect(t T, addr string) *Client {
	t.Helper()
	c, err := Dial(addr, "")
	Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// Send dials, sends one mail and says QUIT; a connection that breaks ends the test.
func Send(t T, addr, from string, m Message) string {
	t.Helper()
	c, err := Dial(addr, from)
	Must(t, err)
	defer c.Close()
	reply, err := c.Send(m)
	Must(t, err)
	c.Cmd("QUIT")
	return reply
}
