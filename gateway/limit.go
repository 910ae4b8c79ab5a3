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
	// A company behind one address opens a few hundred pages when a newsletter arrives.
	requestsPerSecond = 20
	requestsAtOnce    = 600
	// maxClients bounds the memory. A forgotten client begins again with a full allowance.
	maxClients = 10_000
)

// limits protects the store and the other clients from a client that sends too many requests.
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

// allow reports whether the client may send this request. A client on this machine always may.
func (l *limits) allow(r *http.Request) bool {
	client, ok := clientOf(r)
	if !ok {
		return true
	}
	allowance, ok := l.clients.Get(client)
	if !ok { // two first requests at the same time may count as one
		allowance = rate.NewLimiter(requestsPerSecond, requestsAtOnce)
		l.clients.Add(client, allowance)
	}
	return allowance.Allow()
}

// clientOf returns the client's network. The client is the peer or, if the peer is a web server on
// this machine or in its private network, the last address in X-Forwarded-For, since the client may
// have written the ones before. ok is false for a client on this machine.
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

// parseAddr parses an address with or without a port. Anything else, like a unix socket, is local.
func parseAddr(s string) (addr netip.Addr, local bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	addr = addr.Unmap().WithZone("")
	return addr, err != nil || addr.IsLoopback()
}

// network returns the addresses that one client may use: a single IPv4 address, or an IPv6 /64.
func network(a netip.Addr) (netip.Prefix, bool) {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}
