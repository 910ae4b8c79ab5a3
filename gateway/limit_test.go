package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

func TestClientIsTheLastForwardedAddress(t *testing.T) {
	for _, c := range []struct {
		peer string
		hops []string
		want string // "": not limited
	}{
		{"127.0.0.1:1", nil, ""},
		{"[::1]:1", nil, ""},
		{"@", nil, ""}, // a unix socket
		{"192.0.2.1:1", nil, "192.0.2.1/32"},
		{"192.0.2.1:1", []string{"203.0.113.9"}, "192.0.2.1/32"}, // the peer is not our web server
		{"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::/64"},
		{"[::ffff:192.0.2.1]:1", nil, "192.0.2.1/32"},
		{"127.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9/32"},
		{"172.17.0.1:1", []string{"203.0.113.9"}, "203.0.113.9/32"}, // a web server in another container
		{"172.17.0.1:1", nil, "172.17.0.1/32"},
		{"@", []string{"203.0.113.9:555"}, "203.0.113.9/32"},
		{"127.0.0.1:1", []string{"10.0.0.1, 203.0.113.9"}, "203.0.113.9/32"}, // the client wrote the first
		{"127.0.0.1:1", []string{"10.0.0.1", "2001:db8::1"}, "2001:db8::/64"},
		{"127.0.0.1:1", []string{"127.0.0.1"}, ""},
		{"127.0.0.1:1", []string{"garbage"}, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.hops
		got, ok := clientOf(r)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s %q: got %v, %v, want %q", c.peer, c.hops, got, ok, c.want)
		}
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

// The memory of clients is bounded.
func TestRememberedClientsAreBounded(t *testing.T) {
	l := newLimits()
	r := httptest.NewRequest("GET", "/", nil)
	for i := range maxClients + 100 {
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)
		if !l.allow(r) {
			t.Fatalf("client %d refused", i)
		}
	}
	if got := l.clients.Len(); got != maxClients {
		t.Errorf("%d clients remembered, want %d", got, maxClients)
	}
}
