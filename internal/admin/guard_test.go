package admin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// asked returns the status of an answer.
func asked(h http.Handler, path, host string, pairs ...string) int {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })

// A page whose host name leads to this machine can neither read the answers nor cause them.
func TestPagesOfOthersAreRefused(t *testing.T) {
	h := Guard(ok, "mail.example.org:9090")
	for host, want := range map[string]int{
		"127.0.0.1:9090": 200, "localhost:9090": 200, "LOCALHOST": 200, "[::1]:9090": 200, "10.0.0.5:9090": 200,
		"a.localhost:9090": 200, "detach:9090": 200, "": 200, "mail.example.org:9090": 200, "Mail.Example.org": 200,
		"evil.example:9090": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:9090": 403, "evil.example.:9090": 403,
		"example.org": 403,
	} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz", profiles, profiles + "profile"} {
			if got := asked(h, path, host); got != want {
				t.Errorf("%s at %q: status %d, want %d", path, host, got, want)
			}
		}
	}
	for _, tt := range []struct {
		site, mode string
		want       int
	}{
		{"", "", 200}, {"none", "navigate", 200}, {"same-origin", "cors", 200}, {"cross-site", "navigate", 200},
		{"cross-site", "no-cors", 403}, {"cross-site", "cors", 403}, {"same-site", "no-cors", 403}, {"cross-site", "", 403},
	} {
		if got := asked(h, profiles+"profile", "localhost", "Sec-Fetch-Site", tt.site, "Sec-Fetch-Mode", tt.mode); got != tt.want {
			t.Errorf("site %q, mode %q: status %d, want %d", tt.site, tt.mode, got, tt.want)
		}
	}
}

func TestOneProfileAtATime(t *testing.T) {
	begun, end := make(chan bool), make(chan bool)
	h := Guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == profiles+"profile" {
			begun <- true
			<-end
		}
	}), "")
	var first sync.WaitGroup
	first.Go(func() {
		if got := asked(h, profiles+"profile?seconds=60", "localhost"); got != 200 {
			t.Errorf("the first profile: status %d", got)
		}
	})
	<-begun
	for path, want := range map[string]int{profiles + "trace": 503, profiles + "heap": 503, profiles: 503, "/metrics": 200, "/readyz": 200} {
		if got := asked(h, path, "localhost"); got != want {
			t.Errorf("%s beside a profile: status %d, want %d", path, got, want)
		}
	}
	close(end)
	first.Wait()
	for seconds, want := range map[string]int{"1": 200, "0.5": 200, "60": 200, "61": 400, "1e9": 400, "x": 400, "NaN": 400} {
		if got := asked(h, profiles+"trace?seconds="+seconds, "localhost"); got != want {
			t.Errorf("%s seconds: status %d, want %d", seconds, got, want)
		}
	}
}

// The answer is made at most once a second, however many clients ask, and to its end for a client
// that leaves.
func TestReadinessIsAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		questions, status := 0, http.StatusOK
		h := Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			questions++
			if _, ok := r.Context().Deadline(); !ok {
				t.Error("the question has no end")
			}
			time.Sleep(time.Second)
			w.Header().Set("X-Reason", "some")
			w.WriteHeader(status)
		}), "")
		ask := func(want int) {
			t.Helper()
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					if got := asked(h, "/readyz", "localhost"); got != want {
						t.Errorf("status %d, want %d", got, want)
					}
				})
			}
			all.Wait()
		}
		ask(http.StatusOK)
		status = http.StatusServiceUnavailable
		ask(http.StatusOK)
		if questions != 1 {
			t.Errorf("%d questions, want 1", questions)
		}
		time.Sleep(rememberTime)
		ask(http.StatusServiceUnavailable)
		if questions != 2 {
			t.Errorf("%d questions, want 2", questions)
		}
	})
}
