package check

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// asked returns what nextHops finds about one next hop.
func asked(t *testing.T, dataDir, listen, reinject string, maxSize config.Size, change ...func(*config.Config)) string {
	t.Helper()
	var found []string
	cfg := config.Default()
	cfg.DataDir = dataDir
	cfg.Proxy = []config.Proxy{{Listen: listen, Reinject: reinject, MaxSize: maxSize}}
	for _, f := range change {
		f(&cfg)
	}
	c := checker{t.Context(), Target{Config: cfg}, func(f Finding) {
		found = append(found, []string{"ok", "warn", "fail", "refuse"}[f.Level]+" "+f.Text)
	}}
	c.nextHops()
	return strings.Join(found, "\n")
}

// hop is a mail server that answers each verb as scripted, and with 250 otherwise. It returns its
// address.
func hop(t *testing.T, script map[string]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go answerAll(c, script)
		}
	}()
	return l.Addr().String()
}

func answerAll(c net.Conn, script map[string]string) {
	defer c.Close()
	c.Write([]byte("220 hop ESMTP\r\n"))
	for lines := bufio.NewScanner(c); lines.Scan(); {
		verb, _, _ := strings.Cut(lines.Text(), " ")
		reply, ok := script[verb+" "+lines.Text()[strings.LastIndex(lines.Text(), "@")+1:]] // RCPT with a domain
		if !ok {
			reply, ok = script[verb]
		}
		if !ok {
			reply = "250 2.0.0 Ok"
		}
		c.Write([]byte(reply + "\r\n"))
	}
}

func TestNextHopIsAskedForAMail(t *testing.T) {
	faults.Covers(t, 36)
	const full = "250-hop\r\n250-SIZE 0\r\n250-8BITMIME\r\n250-XFORWARD NAME\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN"
	sized := func(n string) string { return strings.Replace(full, "SIZE 0", "SIZE "+n, 1) }
	for name, tt := range map[string]struct {
		script  map[string]string
		maxSize config.Size
		want    string // the findings' levels and beginnings, but for the address
	}{
		"good":                {map[string]string{"EHLO": full}, 0, "ok takes mail of any size"},
		"no postmaster":       {map[string]string{"EHLO": full, "RCPT": "550 5.1.1 User unknown"}, 0, "ok takes mail of any size"},
		"small":               {map[string]string{"EHLO": sized("2000")}, 0, "ok takes mail of up to 2 KB|warn mails above 2 KB are refused before"},
		"small, with a limit": {map[string]string{"EHLO": sized("2000")}, 1 << 30, "ok takes mail of up to 2 KB|warn mails that stay above 2 KB"},
		"Postfix's default":   {map[string]string{"EHLO": sized("10240000")}, 0, "ok takes mail of up to 10 MB|warn mails above 10 MB"},
		"default and a limit": {map[string]string{"EHLO": sized("10240000")}, 1 << 30, "ok takes mail of up to 10 MB"},
		"own domains only": {map[string]string{"EHLO": full, "RCPT example.com>": "454 4.7.1 Relay access denied"}, 0,
			"warn it takes no mail for other domains (SMTP error 454: Relay access denied)|ok takes mail of any size"},
		"mynetworks": {map[string]string{"EHLO": full, "RCPT": "554 5.7.1 Client host rejected"}, 0, "fail refuses mail from here (SMTP error 554: Client host rejected): let its service"},
		"greylisted": {map[string]string{"EHLO": full, "RCPT": "450 4.7.1 Greylisted"}, 0, "fail refuses mail from here (SMTP error 450: Greylisted)"},
		"full":       {map[string]string{"EHLO": full, "MAIL": "452 4.3.1 Insufficient system storage"}, 0, "fail takes no mail now (SMTP error 452"},
		"ourselves, without DSN": {map[string]string{"EHLO": full, "RCPT": "451 4.4.6 Mail loops back to this server"}, 0,
			"fail leads back to Detach, so mail would go round"},
		"ourselves": {map[string]string{"EHLO": full, "RCPT": "554 5.4.6 Mail loop: this is Detach"}, 0, "fail leads back to Detach, so mail would go round"},
	} {
		t.Run(name, func(t *testing.T) {
			address := hop(t, tt.script)
			got := strings.ReplaceAll(asked(t, "/data", "127.0.0.1:0", address, tt.maxSize), address+" ", "")
			lines, want := strings.Split(got, "\n"), strings.Split(tt.want, "|")
			if len(lines) != len(want) {
				t.Fatalf("found %q, want %q", lines, want)
			}
			for i, w := range want {
				if !strings.HasPrefix(lines[i], w) {
					t.Errorf("found %q, want %q", lines[i], w)
				}
			}
		})
	}
}

// The stand-in may be stopped before it has begun to serve.
func TestStandInEnds(t *testing.T) {
	cfg := config.Config{Proxy: []config.Proxy{{Listen: "127.0.0.1:0"}, {Listen: "127.0.0.1:0"}}}
	for range 500 {
		standIn(t.Context(), cfg)()
	}
}

func TestOpenListenersAreNamed(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:0": false, "[::1]:0": false, "localhost:0": false, "unix:/run/x": false,
		":0": true, "0.0.0.0:0": true, "[::]:0": true, "192.0.2.1:0": true} {
		warned := false
		c := checker{ctx: t.Context(), report: func(f Finding) { warned = warned || strings.Contains(f.Text, "open to other machines") }}
		c.address("proxy[0].listen", address, false)
		if warned != want {
			t.Errorf("%s: warned %v, want %v", address, warned, want)
		}
	}
}

// Only a gateway is taken for one, and what stands in its place is named.
func TestOtherWebSitesAreNoGateway(t *testing.T) {
	page := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/prefix/w/worker.js" {
				status = http.StatusTeapot
			}
			w.WriteHeader(status)
			w.Write([]byte(body))
		}
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		level   Level
		want    string
	}{
		"gateway":      {page(200, "// "+ourWords), OK, "answers"},
		"another site": {page(200, "<h1>Welcome to nginx!</h1>"), Warn, "is another web site"},
		"404":          {page(404, "Not Found"), Warn, "is another web site"},
		"502":          {page(502, "Bad Gateway"), Warn, "answers 502 Bad Gateway"},
	} {
		site := httptest.NewServer(tt.handler)
		c := checker{ctx: t.Context(), report: func(f Finding) {
			if f.Level != tt.level || !strings.Contains(f.Text, tt.want) {
				t.Errorf("%s: got %v, want %q", name, f, tt.want)
			}
		}}
		c.url(site.URL+"/prefix", true)
		c.report = func(f Finding) {
			if f.Level != Warn || !strings.Contains(f.Text, "speaks plain HTTP on this port") {
				t.Errorf("https: got %v", f)
			}
		}
		c.url(strings.Replace(site.URL, "http:", "https:", 1)+"/prefix", true)
		site.Close()
	}
}
