package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// A company behind one address opens a few hundred pages when a newsletter arrives.
	requestsPerSecond = 20
	requestsAtOnce    = 600
	// inProgress is how many requests of one client are answered together. Pages take milliseconds
	// and wait for a slot; 64 downloads share the line of an office of several hundred readers.
	inProgress = 64
	// A site's network (an IPv6 /48) may have several times what one of its clients may have.
	siteFactor = 4
	// allInProgress bounds the memory of all requests, each of which has buffers and stacks.
	allInProgress = 1024
	// slotTimeout is how long a request waits for a slot.
	slotTimeout = 10 * time.Second
	// maxClients bounds the memory of past requests. A forgotten client begins again with a full
	// allowance.
	maxClients = 10_000
)

// limits protects the store and the other clients from a client that sends too many requests, or
// that reads too many answers together.
type limits struct {
	trusted   []netip.Prefix // web servers whose X-Forwarded-For is believed
	untrusted func()         // called for an X-Forwarded-For that the operator's web server may have sent

	rates *lru.Cache[netip.Prefix, *rate.Limiter]
	all   chan struct{} // a slot for each request in progress

	mu    sync.Mutex
	slots map[netip.Prefix]*slots // of the networks that have requests in progress or waiting
}

// slots are the slots of one network.
type slots struct {
	taken chan struct{}
	users int // requests in progress or waiting; with none, the network is forgotten
}

func newLimits(trusted []netip.Prefix, untrusted func()) *limits {
	rates, err := lru.New[netip.Prefix, *rate.Limiter](maxClients)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &limits{
		trusted: trusted, untrusted: sync.OnceFunc(untrusted), rates: rates,
		all: make(chan struct{}, allInProgress), slots: make(map[netip.Prefix]*slots),
	}
}

// enter waits until the request may be answered. The caller calls leave after the answer. enter
// returns errTooMany for a client that has used up its allowance or its slots, and errBusy if all
// slots are taken. A client on this machine needs only a slot of all.
func (l *limits) enter(r *http.Request) (leave func(), err error) {
	client := l.clientOf(r)
	networks := networksOf(client)
	for i, n := range networks {
		if !l.allow(n, factor(i)) {
			return nil, errTooMany
		}
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), slotTimeout, errTooMany)
	defer cancel()
	var leaves []func()
	leave = func() {
		for _, leave := range slices.Backward(leaves) {
			leave()
		}
	}
	for i, n := range networks {
		leaveOne, err := l.takeSlot(ctx, n, inProgress*factor(i))
		if err != nil {
			leave()
			return nil, err
		}
		leaves = append(leaves, leaveOne)
	}
	select {
	case l.all <- struct{}{}:
	case <-ctx.Done():
		leave()
		if r.Context().Err() == nil {
			return nil, errBusy
		}
		return nil, context.Cause(ctx)
	}
	leaves = append(leaves, func() { <-l.all })
	return leave, nil
}

func factor(network int) int {
	if network == 0 {
		return 1
	}
	return siteFactor
}

// allow takes one request off the allowance of a network.
func (l *limits) allow(network netip.Prefix, factor int) bool {
	allowance, ok := l.rates.Get(network)
	if !ok { // two first requests at the same time may count as one
		allowance = rate.NewLimiter(rate.Limit(requestsPerSecond*factor), requestsAtOnce*factor)
		l.rates.Add(network, allowance)
	}
	return allowance.Allow()
}

// charge takes n more requests off the client's allowance, for a request that costs as much. If
// fewer are left, the client's next requests are refused for longer.
func (l *limits) charge(r *http.Request, n int) {
	for _, network := range networksOf(l.clientOf(r)) {
		if allowance, ok := l.rates.Get(network); ok {
			allowance.ReserveN(time.Now(), min(n, allowance.Burst()))
		}
	}
}

// takeSlot waits for one of n slots of a network, or returns the cause of ctx's end.
func (l *limits) takeSlot(ctx context.Context, network netip.Prefix, n int) (leave func(), err error) {
	l.mu.Lock()
	p := l.slots[network]
	if p == nil {
		p = &slots{taken: make(chan struct{}, n)}
		l.slots[network] = p
	}
	p.users++
	l.mu.Unlock()
	select {
	case p.taken <- struct{}{}:
		return func() { <-p.taken; l.forget(network, p) }, nil
	case <-ctx.Done():
		l.forget(network, p)
		return nil, context.Cause(ctx)
	}
}

func (l *limits) forget(network netip.Prefix, p *slots) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(l.slots, network)
	}
}

// clientOf returns the client's address, which is invalid for a client on this machine. The client
// is the peer or, if the peer is a trusted web server, the last address in X-Forwarded-For that is
// not one too: the client may have written those before it.
func (l *limits) clientOf(r *http.Request) netip.Addr {
	client, local := parseAddr(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if hop = strings.TrimSpace(hop); hop == "" {
			break
		}
		if !local && !l.trusts(client) {
			if client.IsPrivate() {
				l.untrusted()
			}
			break
		}
		client, local = parseAddr(hop)
	}
	if local {
		return netip.Addr{}
	}
	return client
}

func (l *limits) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(l.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
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

// networksOf returns the networks whose requests are counted together: the addresses that one
// client may use, and those that a provider gives to one site. For IPv4 that is one address; for
// IPv6 a /64 and a /48 (RFC 6177). An invalid address has none.
func networksOf(a netip.Addr) []netip.Prefix {
	switch {
	case !a.IsValid():
		return nil
	case a.Is4():
		return []netip.Prefix{netip.PrefixFrom(a, 32)}
	}
	client, site := netip.PrefixFrom(a, 64).Masked(), netip.PrefixFrom(a, 48).Masked()
	return []netip.Prefix{client, site}
}
