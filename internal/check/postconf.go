package check

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"

	"github.com/nkirchhoffer/detach-mta/internal/config"
)

// milters warns of the milters of main.cf that a Postfix behind, on this machine, has inherited:
// they see every mail a second time, as if Detach were its client. A Postfix that cannot be asked is
// somewhere else.
func (c *checker) milters(key, reinject string) {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	service, err := smtpdAt(ctx, reinject)
	if err != nil || service == "" {
		return
	}
	milters, err := parameter(ctx, service, "smtpd_milters")
	if err != nil || milters == "" {
		return
	}
	options, err := parameter(ctx, service, "receive_override_options")
	if err != nil || strings.Contains(options, "no_milters") {
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

// parameter returns the value that a parameter has for a service: of master.cf, or of main.cf.
func parameter(ctx context.Context, service, name string) (string, error) {
	set, err := postconf(ctx, "-x", "-P", service+"/inet/"+name)
	if err != nil {
		return "", err
	}
	if _, value, ok := strings.Cut(set, " ="); ok {
		return strings.TrimSpace(value), nil
	}
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
