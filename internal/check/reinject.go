package check

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// Mark returns the envelope id (RFC 3461 section 4.4) of the mails that Run begins and never sends.
// A mail server passes it on. A Detach that gets its own mark as a client's command is its own next
// hop: it refuses the mail with loopCode. The mark names the installation, so that two that stand
// one behind the other are not taken for one.
func Mark(cfg config.Config) string {
	host, _ := os.Hostname() // without it, the data directory has to tell installations apart
	sum := sha256.Sum256([]byte(host + "\n" + cfg.DataDir))
	return fmt.Sprintf("detach-check-%x", sum[:8])
}

// loopCode is the enhanced status of "routing loop detected" (RFC 3463 section 3.5).
var loopCode = smtp.EnhancedCode{5, 4, 6}

// loopSuspected is what Detach says where a mail server without DSN does not pass the mark on.
var loopSuspected = smtp.EnhancedCode{4, 4, 6}

// smallLimit is Postfix's default of message_size_limit. It is enough for rewritten mail. As the
// limit of incoming mail, it refuses the mails that Detach is for.
const smallLimit = 10_240_000

// nextHop begins a mail to the postmaster, and takes it back before DATA. It reports whether the
// mail server takes the mail, what the server lacks, and whether it leads back to Detach.
func (c *checker) nextHop(at string, p config.Proxy) {
	key := at + "reinject"
	ctx, cancel := context.WithTimeout(c.ctx, 2*timeout) // Detach takes 5 s to find that it is in a loop
	defer cancel()
	g, client, err := greeted(ctx, p.Reinject)
	if err != nil {
		c.fail(key, "%s does not answer as a mail server (%v): start the Postfix behind, or correct the address", p.Reinject, err)
		return
	}
	defer client.Close()
	if !c.takesMail(key, p.Reinject, client) {
		return
	}
	limit := texts.English().Size(int64(g.size))
	if g.size > 0 {
		c.ok(key, "%s takes mail of up to %s", p.Reinject, limit)
	} else {
		c.ok(key, "%s takes mail of any size", p.Reinject)
	}
	switch {
	case g.size == 0 || g.size > smallLimit:
	case p.MaxSize == 0:
		c.warn(key, "mails above %s are refused before their attachments are detached: set max_size", limit)
	case g.size < smallLimit:
		c.warn(key, "mails that stay above %s without their attachments are refused: raise message_size_limit there", limit)
	}
	c.postfix(at, p, int64(g.size))
	if !g.xforward {
		c.warn(key, "no XFORWARD, so its log will name Detach as the client: set smtpd_authorized_xforward_hosts there")
	}
	if !g.eightBit {
		c.warn(key, "no 8BITMIME, so mail with 8-bit text cannot pass: do not switch it off there")
	}
}

// outside is a recipient at a domain that no next hop is responsible for (RFC 2606).
const outside = "postmaster@example.com"

// takesMail reports whether a mail server would take a mail from this machine.
func (c *checker) takesMail(key, address string, client *smtp.Client) bool {
	err := client.Mail("", &smtp.MailOptions{EnvelopeID: Mark(c.target.Config)})
	if err == nil {
		// Postfix accepts <postmaster>, without a domain, from everyone.
		err = client.Rcpt("postmaster@"+literal(address), nil)
	}
	var refusal *smtp.SMTPError
	switch {
	case err == nil, errors.As(err, &refusal) && unknown(refusal):
		if errors.As(client.Rcpt(outside, nil), &refusal) && !unknown(refusal) {
			c.warn(key, "it takes no mail for other domains (%v): right for mail from outside; for mail of your own users set -o mynetworks in its service", refusal)
		}
		_ = client.Reset() // if the server is gone, nothing is to be taken back
		_ = client.Quit()
		return true
	case refusal == nil:
		c.fail(key, "%s breaks off when a mail begins (%v): its log says why", address, err)
	case refusal.EnhancedCode == loopCode, refusal.EnhancedCode == loopSuspected:
		c.fail(key, "%s leads back to Detach, so mail would go round: name the Postfix behind, and take smtpd_proxy_filter out of its service in master.cf", address)
	case refusal.EnhancedCode[1] == 3:
		c.fail(key, "%s takes no mail now (%v): its log says why; is its disk full?", address, refusal)
	default:
		c.fail(key, "%s refuses mail from here (%v): let its service in master.cf have -o mynetworks with the address of Detach, and permit_mynetworks first in each of its restrictions", address, refusal)
	}
	return false
}

// unknown reports whether a mail server refuses a recipient, and would take mail for others: 5.1.X
// is about the address alone (RFC 3463 section 3.2).
func unknown(refusal *smtp.SMTPError) bool {
	return refusal.Code/100 == 5 && refusal.EnhancedCode[0] == 5 && refusal.EnhancedCode[1] == 1
}

// literal returns the address literal (RFC 5321 section 4.1.3) of a mail server.
func literal(address string) string {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	switch {
	case ip == nil: // a socket, or a name, which is hardly ever that of another machine
		return "[127.0.0.1]"
	case ip.To4() == nil:
		return "[IPv6:" + host + "]"
	}
	return "[" + host + "]"
}

// greeting is what a mail server says about itself.
type greeting struct {
	xforward, eightBit bool
	size               int // of the largest mail; 0: no limit
}

// greeted connects to a mail server and says EHLO. The connection ends with ctx. The caller closes
// the client.
func greeted(ctx context.Context, address string) (greeting, *smtp.Client, error) {
	network, addr := config.Network(address)
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return greeting{}, nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	client := smtp.NewClient(conn)
	if err := client.Hello("localhost"); err != nil {
		client.Close()
		return greeting{}, nil, err
	}
	var g greeting
	g.xforward, _ = client.Extension("XFORWARD")
	g.eightBit, _ = client.Extension("8BITMIME")
	g.size, _ = client.MaxMessageSize()
	return g, client, nil
}

// greet says EHLO and QUIT to a mail server.
func greet(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, client, err := greeted(ctx, address)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Quit()
}

// standIn listens in place of a Detach that does not run, at the addresses of the proxies that are
// free, until stop is called. It refuses a mail with our mark as Detach does, and defers others.
func standIn(ctx context.Context, cfg config.Config) (stop func()) {
	var stops []func() error
	var serving sync.WaitGroup
	for _, p := range cfg.Proxy {
		network, addr := config.Network(p.Listen)
		l, err := new(net.ListenConfig).Listen(ctx, network, addr)
		if err != nil {
			continue // Detach runs there, or address has said why it could not
		}
		s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return refuser{mark: Mark(cfg)}, nil }))
		s.Domain, s.EnableDSN, s.ReadTimeout, s.WriteTimeout = "localhost", true, timeout, timeout
		stops = append(stops, l.Close, s.Close) // Serve may begin only after Close
		serving.Go(func() { _ = s.Serve(l) })
	}
	return func() {
		for _, stop := range stops {
			_ = stop()
		}
		serving.Wait()
	}
}

// refuser refuses a mail with our mark for good, and defers all others.
type refuser struct {
	smtp.Session // nil: no client gets beyond Mail
	mark         string
}

func (r refuser) Mail(_ string, opts *smtp.MailOptions) error {
	if opts.EnvelopeID == r.mark {
		return &smtp.SMTPError{Code: 554, EnhancedCode: loopCode, Message: "Mail loop: this is Detach"}
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Detach is not running"}
}

func (refuser) Reset()        {}
func (refuser) Logout() error { return nil }
