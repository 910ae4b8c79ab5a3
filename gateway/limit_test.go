package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/vault"
)

// limitsFor believes the web servers in these networks.
func limitsFor(networks ...string) *limits {
	var trusted []netip.Prefix
	for _, n := range networks {
		trusted = append(trusted, netip.MustParsePrefix(n))
	}
	return newLimits(trusted, func() {})
}

// asked is a request as it comes from a peer.
func asked(peer string, hops ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = peer
	r.Header["X-Forwarded-For"] = hops
	return r
}

func TestClientIsTheLastForwardedAddress(t *testing.T) {
	for _, c := range []struct {
		peer string
		hops []string
		want string // "": not limited
	}{
		{"127.0.0.1:1", nil, "[]"},
		{"[::1]:1", nil, "[]"},
		{"@", nil, "[]"}, // a unix socket
		{"192.0.2.1:1", nil, "[192.0.2.1/32]"},
		{"192.0.2.1:1", []string{"203.0.113.9"}, "[192.0.2.1/32]"}, // the peer is not our web server
		{"172.17.0.1:1", []string{"203.0.113.9"}, "[172.17.0.1/32]"},
		{"[2001:db8:1:2:3:4:5:6]:1", nil, "[2001:db8:1:2::/64 2001:db8:1::/48]"},
		{"[::ffff:192.0.2.1]:1", nil, "[192.0.2.1/32]"},
		{"127.0.0.1:1", []string{"203.0.113.9"}, "[203.0.113.9/32]"},
		{"10.1.2.3:1", []string{"203.0.113.9"}, "[203.0.113.9/32]"}, // a web server of ours
		{"10.1.2.3:1", nil, "[10.1.2.3/32]"},
		{"[fd00::7]:1", []string{"10.1.2.3"}, "[10.1.2.3/32]"},                           // trusted servers are clients too
		{"10.1.2.3:1", []string{"192.0.2.7, 203.0.113.9, 10.9.9.9"}, "[203.0.113.9/32]"}, // two web servers
		{"10.1.2.3:1", []string{"192.0.2.7", "203.0.113.9", "fd00::7", "127.0.0.1"}, "[203.0.113.9/32]"},
		{"@", []string{"203.0.113.9:555"}, "[203.0.113.9/32]"},
		{"127.0.0.1:1", []string{"10.0.0.1, 203.0.113.9"}, "[203.0.113.9/32]"}, // the client wrote the first
		{"127.0.0.1:1", []string{"10.0.0.1", "2001:db8::1"}, "[2001:db8::/64 2001:db8::/48]"},
		{"127.0.0.1:1", []string{"127.0.0.1"}, "[]"},
		{"127.0.0.1:1", []string{"garbage"}, "[]"},
		{"127.0.0.1:1", []string{"127.0.0.1, 203.0.113.9"}, "[203.0.113.9/32]"},
	} {
		l := limitsFor("10.0.0.0/8", "fd00::/64")
		if got := fmt.Sprint(networksOf(l.clientOf(asked(c.peer, c.hops...)))); got != c.want {
			t.Errorf("%s %q: got %v, want %q", c.peer, c.hops, got, c.want)
		}
	}
}

// The log says once that a web server which may be the operator's is not believed.
func TestUntrustedWebServerIsNoticed(t *testing.T) {
	times := 0
	l := newLimits(nil, func() { times++ })
	for range 3 {
		l.clientOf(asked("192.0.2.1:1", "203.0.113.9"))
		l.clientOf(asked("127.0.0.1:1", "203.0.113.9"))
		l.clientOf(asked("172.17.0.1:1"))
	}
	if times != 0 {
		t.Errorf("noticed %d times without one", times)
	}
	for range 3 {
		l.clientOf(asked("172.17.0.1:1", "203.0.113.9"))
	}
	if times != 1 {
		t.Errorf("noticed %d times, want once", times)
	}
}

// The clock of the bubble stands still while the client asks, even on a slow machine.
func TestGreedyClientIsRefusedAlone(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	path := "/" + f.put("a.pdf", []byte("x")).CID.String()
	synctest.Test(t, func(t *testing.T) {
		handler := f.handler(f.vault, Config{})
		ask := func(path, client string, want int) http.Header {
			t.Helper()
			r := httptest.NewRequest(http.MethodGet, prefix+path, nil)
			r.RemoteAddr = "127.0.0.1:1"
			r.Header.Set("X-Forwarded-For", client)
			rec := httptest.NewRecorder()
			if handler.ServeHTTP(rec, r); rec.Code != want {
				t.Errorf("%s asks for %s: status %d, want %d", client, path, rec.Code, want)
			}
			return rec.Header()
		}
		const greedy = "203.0.113.1"
		for range requestsAtOnce {
			ask("/robots.txt", greedy, http.StatusOK)
		}
		if ask(path, greedy, http.StatusTooManyRequests).Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		ask(path, "203.0.113.2", http.StatusOK)
		ask(path, "127.0.0.1", http.StatusOK)
		time.Sleep(time.Second)
		ask(path, greedy, http.StatusOK)
	})
}

// A client cannot multiply its allowance with the addresses of its network.
func TestNetworkHasOneAllowance(t *testing.T) {
	faults.Covers(t, 95)
	synctest.Test(t, func(t *testing.T) {
		l := limitsFor()
		ask := func(host int) bool {
			leave, err := l.enter(asked(fmt.Sprintf("[2001:db8:7:%x::1]:1", host)))
			if err == nil {
				leave()
			}
			return err == nil
		}
		served := 0
		for host := range 2 * siteFactor * requestsAtOnce {
			if ask(host) {
				served++
			}
		}
		if want := siteFactor * requestsAtOnce; served != want {
			t.Errorf("%d requests of a /48 were allowed, want %d", served, want)
		}
		if leave, err := l.enter(asked("[2001:db8:8::1]:1")); err != nil {
			t.Errorf("the network beside it: %v", err)
		} else {
			leave()
		}
	})
}

// A ZIP of many files takes as much of its client's allowance as it costs.
func TestLongArchivesCountAsSeveralRequests(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	var files []named
	for i := range 3 * filesPerRequest {
		files = append(files, named{fmt.Sprintf("%d.txt", i), noise(1)})
	}
	all, _ := f.putAll(files...)
	file := f.ticket(all)
	synctest.Test(t, func(t *testing.T) {
		handler := f.handler(f.vault, Config{})
		served := 0
		for range requestsAtOnce {
			r := asked("@", "203.0.113.1")
			r.Method, r.URL.Path = http.MethodHead, prefix+file
			rec := httptest.NewRecorder()
			if handler.ServeHTTP(rec, r); rec.Code == http.StatusOK {
				served++
			}
		}
		if want := requestsAtOnce / 4; served != want {
			t.Errorf("%d requests for a ZIP of %d files were served, want %d", served, len(files), want)
		}
	})
}

// slowVault keeps a request until it ends, or until proceed is closed.
type slowVault struct {
	Vault
	proceed chan struct{}
}

func (v slowVault) Object(ctx context.Context, c cid.Cid) (*vault.Object, error) {
	select {
	case <-v.proceed:
		return v.Vault.Object(ctx, c)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The requests in progress of one client, of one network and of all clients are bounded. Further
// requests wait for a slot, which the end of a request, or of its connection, frees.
func TestRequestsInProgressAreBounded(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	path := prefix + "/" + f.put("a.pdf", []byte("x")).CID.String()
	for name, tt := range map[string]struct {
		client string // N is the number of the request
		slots  int
		status int
	}{
		"an address": {"203.0.113.1", inProgress, http.StatusTooManyRequests},
		"a /64":      {"2001:db8:1:1::N", inProgress, http.StatusTooManyRequests},
		"a /48":      {"2001:db8:1:N::1", siteFactor * inProgress, http.StatusTooManyRequests},
		"everybody":  {"2001:db8:N::1", allInProgress, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				proceed := make(chan struct{})
				handler := f.handler(slowVault{f.vault, proceed}, Config{StoreTimeout: time.Hour})
				status := make(chan int, 2*allInProgress)
				n := 0
				ask := func(ctx context.Context, client string) {
					n++
					r := asked("127.0.0.1:1", strings.ReplaceAll(client, "N", fmt.Sprintf("%x", n))).WithContext(ctx)
					r.URL.Path = path
					go func() {
						defer func() {
							if recover() != nil { // the client is gone
								status <- 0
							}
						}()
						rec := httptest.NewRecorder()
						handler.ServeHTTP(rec, r)
						status <- rec.Code
					}()
				}
				want := func(when string, want int) {
					t.Helper()
					synctest.Wait()
					select {
					case got := <-status:
						if got != want {
							t.Errorf("%s: status %d, want %d", when, got, want)
						}
					default:
						t.Errorf("%s: no answer, want %d", when, want)
					}
				}
				gone, leave := context.WithCancel(t.Context())
				ask(gone, tt.client)
				for range tt.slots - 1 {
					ask(t.Context(), tt.client)
				}
				synctest.Wait()
				ask(t.Context(), tt.client)
				if synctest.Wait(); len(status) > 0 {
					t.Errorf("%d answers before their time", len(status))
				}
				time.Sleep(slotTimeout)
				want("one too many", tt.status)
				if tt.status == http.StatusTooManyRequests {
					ask(t.Context(), "198.51.100.1")
				}
				ask(t.Context(), tt.client)
				synctest.Wait()
				leave()
				want("the client that left", 0)
				close(proceed)
				synctest.Wait()
				for len(status) > 0 {
					want("those with a slot", http.StatusOK)
				}
			})
		})
	}
}

// The memory of clients is bounded, and networks without requests in progress take none.
func TestRememberedClientsAreBounded(t *testing.T) {
	l := limitsFor()
	for i := range maxClients + 100 {
		leave, err := l.enter(asked(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)))
		if err != nil {
			t.Fatalf("client %d refused: %v", i, err)
		}
		leave()
	}
	if got := l.rates.Len(); got != maxClients {
		t.Errorf("%d clients remembered, want %d", got, maxClients)
	}
	if len(l.slots) != 0 || len(l.all) != 0 {
		t.Errorf("%d networks and %d requests are still in progress", len(l.slots), len(l.all))
	}
}

// A refused request whose body still comes does not keep its connection.
func TestRefusedBodyIsNotAwaited(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	synctest.Test(t, func(t *testing.T) {
		srv := &http.Server{}
		c, end := f.onPipe(srv)
		defer end()
		const client = "203.0.113.1"
		for range requestsAtOnce {
			srv.Handler.ServeHTTP(httptest.NewRecorder(), asked("@", client))
		}
		go io.WriteString(c, "POST /mail/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+client+"\r\nContent-Length: 1000\r\n\r\n")
		began := time.Now()
		answer, err := io.ReadAll(c)
		if took := time.Since(began); err != nil || took > time.Second || !strings.HasPrefix(string(answer), "HTTP/1.1 429 ") {
			t.Errorf("after %v: %.40q, %v; want a 429 and the end of the connection", took, answer, err)
		}
	})
}
