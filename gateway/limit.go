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
	// A person opens a page or two; a company behind one address opens a few hundred when its newsletter
	// comes; a program that guesses or scrapes goes on and on.
	requestsPerSecond = 20
	requestsAtOnce    = 600
	// maxClients bounds the memory: a client that was forgotten begins with a full allowance.
	maxClients = 10_000
)

// limits keeps one client from taking the whole gateway. Keys need no protection by it, they are 256
// bits long; the store and the other readers do.
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

// allow takes one request off the client's allowance. A client that cannot be told is not limited:
// it is on this machine.
func (l *limits) allow(r *http.Request) bool {
	client, ok := clientOf(r)
	if !ok {
		return true
	}
	allowance, ok := l.clients.Get(client)
	if !ok { // two requests at once may both find none: then one goes uncounted
		allowance = rate.NewLimiter(requestsPerSecond, requestsAtOnce)
		l.clients.Add(client, allowance)
	}
	return allowance.Allow()
}

// clientOf is who asks: whoever is connected, or if that is a web server on this machine or in its
// private network, the last address that one has put into X-Forwarded-For. What stands before it the
// client may have written itself.
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

// parseAddr takes an address with a port or without. What is none, such as a unix socket's, is local.
func parseAddr(s string) (addr netip.Addr, local bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	addr = addr.Unmap().WithZone("")
	return addr, err != nil || addr.IsLoopback()
}

// network is what one client commands: of IPv6 it is given 64 bits to choose from.
func network(a netip.Addr) (netip.Prefix, bool) {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}
