package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/multiformats/go-multiaddr"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// maxMinSize is the largest min_size. A larger one would detach nothing: the unit must be wrong.
const maxMinSize = 1 << 30

// maxName is the length of gateway.name. The notice in a mail has the name in a sentence, on a line
// of less than 998 bytes (RFC 5322 section 2.1.1).
const maxName = 100

// check returns all mistakes in one error.
func (c *Config) check() error {
	var errs []error
	refuse := func(key, problem string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+problem, append([]any{key}, args...)...))
	}
	if !filepath.IsAbs(c.DataDir) {
		refuse("data_dir", "%q is not an absolute path: begin it with /", c.DataDir)
	}
	for i, p := range c.Proxy {
		p.check(fmt.Sprintf("proxy[%d].", i), refuse)
	}
	c.Store.check(refuse)
	c.Keys.check(refuse)
	for _, l := range []struct{ key, address string }{{"gateway.listen", c.Gateway.Listen}, {"admin.listen", c.Admin.Listen}} {
		if l.address != "" {
			checkAddress(refuse, l.key, l.address)
		}
	}
	if problem := urlProblem(c.Gateway.URL); problem != "" {
		refuse("gateway.url", "%s", problem)
	}
	if name := c.Gateway.Name; len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
		refuse("gateway.name", "it must fit into a line of a mail: make it one line of at most %d bytes", maxName)
	}
	c.checkListeners(refuse)
	return errors.Join(errs...)
}

type refuseFunc func(key, problem string, args ...any)

func (p *Proxy) check(at string, refuse refuseFunc) {
	checkAddress(refuse, at+"listen", p.Listen)
	if p.Reinject == "" {
		refuse(at+"reinject", "missing: name the next hop, the Postfix smtpd that takes the rewritten mail, as 127.0.0.1:10026")
	} else {
		checkAddress(refuse, at+"reinject", p.Reinject)
	}
	oneOf(refuse, at+"on_failure", p.OnFailure, "tempfail", "deliver")
	oneOf(refuse, at+"notice", p.Notice, "bottom", "top")
	oneOf(refuse, at+"language", p.Language, languages()...)
	for _, name := range p.RestoreOmit {
		if problem := omitProblem(name); problem != "" {
			refuse(at+"restore_omit", "%q %s", name, problem)
		}
	}
	checkRetention(refuse, at+"retention", p.Retention.Duration)
	if p.MinSize > maxMinSize {
		refuse(at+"min_size", "more than 1GiB, so nothing would ever be detached: 64KiB is usual")
	}
	if p.SenderLimit != 0 && p.SenderLimit < p.MinSize {
		refuse(at+"sender_limit", "smaller than min_size, so nothing would ever be detached: raise it, or write 0 for no limit")
	}
	if p.MaxSize != 0 && p.MaxSize < p.MinSize {
		refuse(at+"max_size", "smaller than min_size, so nothing would ever be detached: raise it, or write 0 for the next hop's own limit")
	}
}

// omitProblem returns why a header field must not be omitted from the original, and the remedy, or
// "".
func omitProblem(name string) string {
	// RFC 5322 section 3.6.8: a name has printable characters except the colon.
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' || r == ':' }) {
		return "is not the name of a header field: write it as in a mail, without the colon, such as X-Originating-IP"
	}
	switch name := strings.ToLower(name); {
	case name == "content-length": // never stored
	case name == "from", name == "date", name == "mime-version", strings.HasPrefix(name, "content-"), name == "detach-restore":
		return "is needed to read the restored mail: leave it out"
	}
	return ""
}

// languages returns the values that language accepts.
func languages() []string {
	codes := []string{"auto"}
	for _, l := range texts.All() {
		codes = append(codes, l.Code)
	}
	return codes
}

func (k *Keys) check(refuse refuseFunc) {
	oneOf(refuse, "keys.mode", k.Mode, "split", "link")
	checkRetention(refuse, "keys.retention", k.Retention)
	// Not 0 either: that might be meant as "never", and would destroy keys within the hour.
	if k.Grace < minPeriod {
		refuse("keys.grace", "less than an hour, so a revocation could hardly be undone: 7d is usual; detach revoke --now destroys a file's key without waiting")
	}
	if _, err := k.Escrow.Recipients(); err != nil {
		refuse("keys.escrow", "%w", err)
	}
}

// minPeriod is the shortest retention and grace. A link ends with a day, so a shorter period would
// promise an end that nobody keeps.
const minPeriod = Duration(time.Hour)

func checkRetention(refuse refuseFunc, key string, d Duration) {
	if d != 0 && d < minPeriod {
		refuse(key, "less than an hour, and links end with a day (UTC): write 1d or more, or 0 for forever")
	}
}

func (s *Store) check(refuse refuseFunc) {
	oneOf(refuse, "store.kind", s.Kind, "embedded", "kubo")
	if s.Also != "" {
		oneOf(refuse, "store.also", s.Also, "embedded", "kubo")
	}
	if s.Also == s.Kind {
		refuse("store.also", "it is the store of store.kind: name the store that still has older objects, or write \"\"")
	}
	if s.Kind != "kubo" && s.Also != "kubo" {
		return
	}
	if problem := apiProblem(s.Kubo.API); problem != "" {
		refuse("store.kubo.api", "%q %s: write a multiaddr, as /ip4/127.0.0.1/tcp/5001 or /unix/run/kubo/api.sock, or an http(s):// URL", s.Kubo.API, problem)
	}
	if _, err := s.Kubo.Token(); err != nil {
		refuse("store.kubo.token_file", "%w", err)
	}
}

// Token reads the secret in TokenFile. Without a TokenFile it is "". If API would carry the secret
// through a network in clear text, Token returns an error: the secret gives full control of the
// node.
func (k *Kubo) Token() (string, error) {
	if k.TokenFile == "" {
		return "", nil
	}
	if k.InTheClear() {
		return "", fmt.Errorf("the node at %q is on another machine, and plain HTTP would show the secret to the network: "+
			"reach the node by https://, by a unix socket, or by a tunnel that ends on this machine", k.API)
	}
	info, err := os.Stat(k.TokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: write kubo's API secret there, or write \"\"", err)
	}
	// The group may read: systemd's LoadCredential and Kubernetes' fsGroup hand over secrets so.
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("everyone can use %s (mode %04o): chmod 0600 %[1]s", k.TokenFile, mode)
	}
	text, err := os.ReadFile(k.TokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: let this user read it", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("%s is not one line: write kubo's API secret there, and nothing else", k.TokenFile)
	}
	return token, nil
}

func oneOf(refuse refuseFunc, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		refuse(key, "%q is not known: write %s", value, `"`+strings.Join(allowed, `" or "`)+`"`)
	}
}

// Network splits an address of the configuration into the two arguments of net.Listen and net.Dial.
func Network(address string) (network, addr string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

func checkAddress(refuse refuseFunc, key, address string) {
	network, addr := Network(address)
	if network == "unix" {
		if !filepath.IsAbs(addr) {
			refuse(key, "%q is not an absolute path: write unix:/path", address)
		}
		return
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		refuse(key, "%q is not an address: write host:port, as 127.0.0.1:10025, or unix:/path", address)
	}
}

// checkListeners refuses two listeners on one address, and a proxy whose next hop is a listener of
// Detach: its mail would go round forever.
func (c *Config) checkListeners(refuse refuseFunc) {
	type listener struct{ key, address string }
	all := []listener{{"gateway.listen", c.Gateway.Listen}, {"admin.listen", c.Admin.Listen}}
	for i, p := range c.Proxy {
		all = append(all, listener{fmt.Sprintf("proxy[%d].listen", i), p.Listen})
	}
	for i, l := range all {
		for _, other := range all[:i] {
			if overlap(l.address, other.address) {
				refuse(l.key, "%s is taken by %s: give each its own port", l.address, other.key)
			}
		}
		for j, p := range c.Proxy {
			if overlap(l.address, p.Reinject) {
				refuse(fmt.Sprintf("proxy[%d].reinject", j), "%s is %s, Detach itself: name the Postfix behind it", p.Reinject, l.key)
			}
		}
	}
}

// overlap reports whether two listeners cannot have these addresses. Port 0 is a new port each
// time.
func overlap(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	networkA, addrA := Network(a)
	networkB, addrB := Network(b)
	if networkA != networkB || networkA == "unix" {
		return a == b
	}
	hostA, portA, _ := net.SplitHostPort(addrA)
	hostB, portB, _ := net.SplitHostPort(addrB)
	if portA != portB || portA == "0" || portA == "" {
		return false
	}
	return hostA == hostB || everywhere(hostA) || everywhere(hostB)
}

func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// urlProblem returns what is wrong with the URL that links begin with, and the remedy, or "".
func urlProblem(raw string) string {
	if raw == "" {
		return "missing: write what links begin with, as https://files.example.org"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Sprintf("%q is not a URL: write https://host or https://host/prefix", raw)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Sprintf("%q cannot be opened in a browser: begin it with https://", raw)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return fmt.Sprintf("%q has more than host and prefix: leave out user, ? and #", u.Redacted())
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Sprintf("%q is plain HTTP beyond this machine, so the network could read the files: use https:// and end TLS in front of gateway.listen", raw)
	}
	if _, err := link.ParseBase(raw); err != nil {
		return fmt.Sprintf("%q cannot stand in a link (%v): use plain letters, digits and single /", raw, err)
	}
	return ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	// RFC 6761 section 6.3: localhost and the names below it are loopback.
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// InTheClear reports whether requests to API leave this machine without TLS.
func (k *Kubo) InTheClear() bool {
	if !strings.HasPrefix(k.API, "/") {
		u, err := url.Parse(k.API)
		return err == nil && u.Scheme == "http" && !loopback(u.Hostname())
	}
	addr, err := multiaddr.NewMultiaddr(k.API)
	if err != nil {
		return false
	}
	host := ""
	for _, c := range addr {
		switch c.Code() {
		case multiaddr.P_IP4, multiaddr.P_IP6, multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6, multiaddr.P_DNSADDR:
			host = c.Value()
		case multiaddr.P_TLS, multiaddr.P_HTTPS, multiaddr.P_UNIX:
			return false
		}
	}
	return !loopback(host)
}

func apiProblem(api string) string {
	if strings.HasPrefix(api, "/") {
		if _, err := multiaddr.NewMultiaddr(api); err != nil {
			return "is not a multiaddr"
		}
		return ""
	}
	if u, err := url.Parse(api); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "is not an address"
	}
	return ""
}
