package check

import (
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/transaction"
	"github.com/nkirchhoffer/detach-mta/proxy"
)

const nearby = `
{{front}} inet n - n - - smtpd
  -o smtpd_proxy_filter={{filter}}
{{after}} inet n - n - - smtpd
  -o smtpd_proxy_filter=
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o message_size_limit=26214400
{{control}} inet n - n - - smtpd
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
  -o mynetworks=192.0.2.0/24
  -o message_size_limit=2000
`

const milters = `
{{front}} inet n - n - - smtpd
{{after}} inet n - n - - smtpd
  -o mynetworks=127.0.0.0/8
{{control}} inet n - n - - smtpd
  -o { receive_override_options = no_address_mappings, no_milters }
{{filter}} inet n - n - - smtpd
  -o smtpd_milters=inet:127.0.0.1:2
`

// A Postfix behind that inherits the milters of main.cf is found.
func TestMiltersBehindAreFound(t *testing.T) {
	signer := servers.FreeAddr(t)
	pf := servers.StartPostfix(t, servers.PostfixConfig{Filter: signer, Destination: "127.0.0.1:1", Domain: "example.org", Master: milters,
		Main: "smtpd_milters = inet:127.0.0.1:1\nmilter_default_action = accept\n"})
	t.Setenv("MAIL_CONFIG", filepath.Join(filepath.Dir(filepath.Dir(pf.LogFile())), "etc"))
	listen := servers.FreeAddr(t)
	if got := asked(t, "/data", listen, pf.After, 0); !strings.Contains(got, "warn the milters inet:127.0.0.1:1 also see") || !strings.Contains(got, "no_milters to "+pf.After) {
		t.Errorf("inherited: %q", got)
	}
	for what, address := range map[string]string{"no_milters": pf.Control, "a signer": signer} {
		if got := asked(t, "/data", listen, address, 0); strings.Contains(got, "milters") {
			t.Errorf("%s: %q", what, got)
		}
	}
	// Its queue is on the disk of data_dir, and its limit that of Postfix's default.
	dir := filepath.Dir(pf.LogFile())
	if got := asked(t, dir, listen, pf.After, 0); strings.Contains(got, "takes no mail at all") {
		t.Errorf("the default of min_free: %q", got)
	}
	if got := asked(t, dir, listen, pf.After, 0, func(c *config.Config) { c.Store.MinFree = config.MinFree{Bytes: 15_000_000} }); !strings.Contains(got, "takes no mail at all when less than 14.6 MiB is free") {
		t.Errorf("a smaller min_free: %q", got)
	}
}

const switchedOn = `
{{front}} inet n - n - - smtpd
  -o smtpd_proxy_filter={{filter}}
{{after}} inet n - n - - smtpd
{{control}} inet n - n - - smtpd
  -o content_filter=detach:[127.0.0.1]:7
  -o message_size_limit=2147483648
`

// From inside, a Detach that gets no mail looks healthy.
func TestPostfixPassesMailToDetach(t *testing.T) {
	listen := servers.FreeAddr(t)
	pf := servers.StartPostfix(t, servers.PostfixConfig{Filter: listen, Destination: "127.0.0.1:1", Domain: "example.org", Master: switchedOn})
	t.Setenv("MAIL_CONFIG", filepath.Join(filepath.Dir(filepath.Dir(pf.LogFile())), "etc"))
	limit := "warn the service " + pf.Front + " of Postfix refuses mail above 10 MB"
	if got := asked(t, "/data", listen, pf.After, 0); strings.Contains(got, "passes no mail") || !strings.Contains(got, limit) {
		t.Errorf("switched on, with a small limit: %q", got)
	}
	if got := asked(t, "/data", "127.0.0.1:7", pf.After, 0); strings.Contains(got, "passes no mail") || strings.Contains(got, "of Postfix refuses") {
		t.Errorf("after the queue: %q", got)
	}
	if got := asked(t, "/data", "127.0.0.1:8", pf.After, 0); !strings.Contains(got, "warn Postfix passes no mail to 127.0.0.1:8") {
		t.Errorf("not switched on: %q", got)
	}
}

// A next hop that leads back to Detach is found, whether Detach runs or not, and so is one that
// refuses all mail from here.
func TestWrongNextHopsOfPostfixAreFound(t *testing.T) {
	faults.Covers(t, 36)
	listen := servers.FreeAddr(t)
	pf := servers.StartPostfix(t, servers.PostfixConfig{Filter: listen, Destination: "127.0.0.1:1", Domain: "example.org", Master: nearby})
	want := func(when, reinject string, words ...string) {
		t.Helper()
		got := asked(t, "/data", listen, reinject, 0)
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("%s: got %q, want %q", when, got, w)
			}
		}
	}
	want("right", pf.After, "ok "+pf.After+" takes mail of up to 26 MB")
	if got := asked(t, "/data", listen, pf.After, 0); strings.Contains(got, "fail") || strings.Contains(got, "warn") {
		t.Errorf("the Postfix behind: %q", got)
	}
	want("mynetworks", pf.Control, "fail "+pf.Control+" refuses mail from here", "554", "mynetworks")
	want("loop, Detach is down", pf.Front, "fail "+pf.Front+" leads back to Detach")

	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{DataDir: "/data"}
	mail := transaction.Config{Policy: func(transaction.Envelope) rewrite.Policy { return rewrite.Policy{} }}
	s := proxy.New(proxy.Config{NextHop: pf.Front, Mail: mail, LoopMark: Mark(cfg)}, slog.New(slog.DiscardHandler))
	go s.Serve(l)
	defer s.Shutdown(t.Context())
	want("loop, Detach runs", pf.Front, "fail "+pf.Front+" leads back to Detach")
}
