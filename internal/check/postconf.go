package check

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/freespace"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// postfix asks the Postfix of this machine about both sides of a proxy, if the next hop is that
// Postfix. Without the program postconf, there is no Postfix here. limit is the next hop's
// message_size_limit.
func (c *checker) postfix(at string, p config.Proxy, limit int64) {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	service, err := smtpdAt(ctx, p.Reinject)
	if err != nil || service == "" {
		return
	}
	c.milters(ctx, at+"reinject", service)
	c.queue(ctx, at+"reinject", limit)
	c.front(ctx, at+"listen", p.Listen)
}

// front warns if no service of Postfix passes its mail to a proxy, or if the service refuses mail
// above Postfix's usual limit.
func (c *checker) front(ctx context.Context, key, listen string) {
	services, err := postconf(ctx, "-x", "-P")
	if err != nil {
		return
	}
	everywhere, err := postconf(ctx, "-x", "smtpd_proxy_filter", "content_filter")
	if err != nil {
		return
	}
	passed := passesTo(everywhere, listen)
	for line := range strings.Lines(services) {
		if !passesTo(line, listen) {
			continue
		}
		passed = true
		service, _, _ := strings.Cut(line, "/")
		c.frontLimit(ctx, key, service)
	}
	if !passed {
		c.warn(key, "Postfix passes no mail to %s: switch it on, as docs/postfix.md says, unless an access map does (FILTER)", listen)
	}
}

// passesTo reports whether a line of postconf names the address as a filter.
func passesTo(lines, listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(line, " =")
		if !strings.HasSuffix(name, "smtpd_proxy_filter") && !strings.HasSuffix(name, "content_filter") {
			continue
		}
		value = strings.TrimSpace(value)
		if err == nil && strings.HasSuffix(value, ":"+port) || err != nil && strings.HasSuffix(value, listen) {
			return true
		}
	}
	return false
}

// frontLimit warns if a service refuses mail before Detach sees it, because of its size.
func (c *checker) frontLimit(ctx context.Context, key, service string) {
	limit, err := ownParameter(ctx, service, "message_size_limit")
	if err == nil && limit == nil {
		var inherited string
		inherited, err = mainParameter(ctx, "message_size_limit")
		limit = &inherited
	}
	if err != nil {
		return
	}
	if n, err := strconv.ParseInt(*limit, 10, 64); err == nil && n > 0 && n <= smallLimit {
		c.warn(key, "the service %s of Postfix refuses mail above %s before Detach sees it: raise its message_size_limit in master.cf", service, texts.English().Size(n))
	}
}

// milters warns of the milters of main.cf that the service has inherited: they see every mail a
// second time, as if Detach were its client. A milter that master.cf names for the service, like a
// signer, is meant to be there.
func (c *checker) milters(ctx context.Context, key, service string) {
	if own, err := ownParameter(ctx, service, "smtpd_milters"); err != nil || own != nil {
		return
	}
	milters, err := mainParameter(ctx, "smtpd_milters")
	if err != nil || milters == "" {
		return
	}
	options, err := ownParameter(ctx, service, "receive_override_options")
	if err == nil && options == nil {
		var inherited string
		inherited, err = mainParameter(ctx, "receive_override_options")
		options = &inherited
	}
	if err != nil || strings.Contains(*options, "no_milters") {
		return
	}
	c.warn(key, "the milters %s also see the mail behind Detach, as mail of 127.0.0.1: a spam filter judges it wrongly, and OpenDKIM signs what is forged: "+
		"add -o receive_override_options=no_milters to %s in master.cf", milters, service)
}

// smtpdAt returns the name in master.cf of the SMTP server at a TCP address, or "".
func smtpdAt(ctx context.Context, address string) (string, error) {
	network, addr := config.Network(address)
	_, port, err := net.SplitHostPort(addr)
	if network != "tcp" || err != nil {
		return "", err
	}
	services, err := postconf(ctx, "-M")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(services) {
		// service type private unpriv chroot wakeup maxproc command (master(5))
		f := strings.Fields(line)
		if len(f) > 7 && f[1] == "inet" && f[7] == "smtpd" && portOf(ctx, f[0]) == port {
			return f[0], nil
		}
	}
	return "", nil
}

// portOf returns the port of a service: smtp, 10026 or 127.0.0.1:10026.
func portOf(ctx context.Context, service string) string {
	name := service[strings.LastIndex(service, ":")+1:]
	if n, err := net.DefaultResolver.LookupPort(ctx, "tcp", name); err == nil {
		return strconv.Itoa(n)
	}
	return name
}

// queue warns if Postfix stops taking mail before Detach stops storing attachments: Postfix wants
// half as much again as its message_size_limit to be free.
func (c *checker) queue(ctx context.Context, key string, limit int64) {
	dir, err := mainParameter(ctx, "queue_directory")
	cfg := c.target.Config
	if err != nil || cfg.Store.MinFree == (config.MinFree{}) || !sameDisk(dir, cfg.DataDir) {
		return
	}
	state, err := freespace.Dir(cfg.DataDir, cfg.Store.MinFree.Of).State(ctx)
	if needed := limit + limit/2; err == nil && state.Min < needed {
		c.warn("store.min_free", "Postfix takes no mail at all when less than %s is free (1.5 times the message_size_limit of %s), and its queue is on this disk: "+
			"set min_free to more than that", freespace.Size(needed), key)
	}
}

// ownParameter returns the value that master.cf gives a parameter for a service; nil if it gives
// none.
func ownParameter(ctx context.Context, service, name string) (*string, error) {
	set, err := postconf(ctx, "-x", "-P", service+"/inet/"+name)
	if err != nil {
		return nil, err
	}
	if _, value, ok := strings.Cut(set, " ="); ok {
		value = strings.TrimSpace(value)
		return &value, nil
	}
	return nil, nil
}

// mainParameter returns the value of main.cf, or Postfix's default.
func mainParameter(ctx context.Context, name string) (string, error) {
	value, err := postconf(ctx, "-x", "-h", name)
	return strings.TrimSpace(value), err
}

// postconf asks the Postfix of this machine for its configuration. Everyone may read it.
func postconf(ctx context.Context, args ...string) (string, error) {
	path, err := exec.LookPath("postconf")
	if err != nil {
		path = "/usr/sbin/postconf" // not in the PATH of ordinary users
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
	return string(out), err
}
