package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// A person opens a page or two. A company behind one address opens a few hundred when a
	// newsletter arrives. A program that guesses or scrapes does not stop.
	requestsPerSecond = 20
	requestsAtOnce    = 600
	// maxClients bounds the memory. A client that was forgotten begins with a full allowance.
	maxClients = 10_000
)

// limits protects the store and the other readers from a client that asks too much. Keys need no
// such protection: they have 256 bits.
type limits struct {
	clients *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newLimits() *limits {
	clients, err := lru.New[netip.Prefix, *rate.Limiter](maxClients)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &limits{clients}
}

// allow takes one request off the client's allowance, and reports whether there was one. A client
// on this machine is not limited.
func (l *limits) allow(r *http.Request) bool {
	client, ok := clientOf(r)
	if !ok {
		return true
	}
	allowance, ok := l.clients.Get(client)
	if !ok { // of two first requests at the same time, one may not be counted
		allowance = rate.NewLimiter(requestsPerSecond, requestsAtOnce)
		l.clients.Add(client, allowance)
	}
	return allowance.Allow()
}

// clientOf returns the network of the client: of the peer, or, if the peer is a web server on this
// machine or in its private network, the last address in X-Forwarded-For. The client may have
// written the addresses before that one. ok is false for a client on this machine.
func clientOf(r *http.Request) (client netip.Prefix, ok bool) {
	addr, local := parseAddr(r.RemoteAddr)
	if hops := r.Header.Values("X-Forwarded-For"); len(hops) > 0 && (local || addr.IsPrivate()) {
		last := hops[len(hops)-1]
		addr, local = parseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
	}
	if local {
		return netip.Prefix{}, false
	}
	return network(addr)
}

// parseAddr takes an address with a port or without. Anything else, such as a unix socket's, is
// local.
func parseAddr(s string) (addr netip.Addr, local bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	addr = addr.Unmap().WithZone("")
	return addr, err != nil || addr.IsLoopback()
}

// network returns the addresses that one client may use: one of IPv4, 64 bits of IPv6.
func network(a netip.Addr) (netip.Prefix, bool) {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}
