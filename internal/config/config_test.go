package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const minimal = `
[[proxy]]
reinject = "127.0.0.1:10026"
[gateway]
url = "https://files.example.org"
`

// The documented file has every default, and values for the two keys without one.
func TestDocumentedFileIsTheDefaults(t *testing.T) {
	got, err := Load("../../docs/detach.toml", nil)
	must.Succeed(t, err)
	want := Default()
	want.Gateway.URL = "https://files.example.org"
	want.Proxy = []Proxy{DefaultProxy()}
	want.Proxy[0].Reinject = "127.0.0.1:10026"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	text, err := os.ReadFile("../../docs/detach.toml")
	must.Succeed(t, err)
	for _, key := range keys() {
		if name := key[strings.LastIndex(key, ".")+1:]; !strings.Contains(string(text), "\n"+name) {
			t.Errorf("docs/detach.toml does not show %s", key)
		}
	}
	_, comment, _ := strings.Cut(string(text), "\nlanguage ")
	comment, _, _ = strings.Cut(comment, "\n")
	for _, code := range languages() {
		if !strings.Contains(comment, `"`+code+`"`) {
			t.Errorf("docs/detach.toml does not name the language %s", code)
		}
	}
}

// alice and bob are age recipients whose secret keys nobody has kept.
const (
	alice = "age1fmavcy0lu68cvwt00qvzprlwqg3lpx5lwa85gkkfl5sr9dd98p0q542cem"
	bob   = "age1hsq40a0g8kym4lwssxqyfmlu99tet0yml90f6p6gt57un074asvqxg9nja"
)

func TestEveryKeyIsRead(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	must.Succeed(t, os.WriteFile(secret, []byte("bearer:abc\n"), 0o600))
	got, err := Parse(`
data_dir = "/srv/detach"
[[proxy]]
listen = "unix:/run/detach/smtp"
reinject = "unix:/run/postfix/in"
on_failure = "deliver"
min_size = 1000
max_size = "25MB"
notice = "top"
language = "fr"
restore = false
restore_omit = ["X-Originating-IP", "User-Agent"]
retention = "90d"
[[proxy]]
listen = "127.0.0.1:10125"
reinject = "127.0.0.1:10026"
retention = 0
[store]
kind = "kubo"
also = "embedded"
min_free = "10GiB"
[store.kubo]
api = "/unix/run/kubo/api.sock"
token_file = "`+secret+`"
[keys]
mode = "link"
retention = "30d"
grace = "14d"
escrow = "`+alice+", "+bob+`"
[gateway]
listen = ""
url = "http://localhost:8080/files/"
trusted_proxies = "10.0.0.5, 172.16.0.0/12 fd00::/8"
view = false
[admin]
listen = ""
`, nil)
	must.Succeed(t, err)
	second := DefaultProxy()
	second.Listen, second.Reinject, second.Retention = "127.0.0.1:10125", "127.0.0.1:10026", Retention{Own: true}
	want := Config{
		DataDir: "/srv/detach",
		Proxy: []Proxy{{Listen: "unix:/run/detach/smtp", Reinject: "unix:/run/postfix/in", OnFailure: "deliver",
			MinSize: 1000, MaxSize: 25_000_000, Notice: "top", Language: "fr", RestoreOmit: []string{"X-Originating-IP", "User-Agent"},
			Retention: Retention{Own: true, Duration: Duration(90 * day)}}, second},
		Store: Store{Kind: "kubo", Also: "embedded", MinFree: MinFree{Bytes: 10 << 30}, Kubo: Kubo{API: "/unix/run/kubo/api.sock", TokenFile: secret}},
		Keys:  Keys{Mode: "link", Retention: Duration(30 * day), Grace: Duration(14 * day), Escrow: Escrow{alice, bob}},
		Gateway: Gateway{URL: "http://localhost:8080/files", TrustedProxies: Networks{
			netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("fd00::/8"),
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if token, err := got.Store.Kubo.Token(); token != "bearer:abc" || err != nil {
		t.Errorf("Token() = %q, %v", token, err)
	}
}

func TestMistakesAreRefusedWithARemedy(t *testing.T) {
	dir := t.TempDir()
	open, empty := filepath.Join(dir, "open"), filepath.Join(dir, "empty")
	must.Succeed(t, os.WriteFile(open, []byte("bearer:abc"), 0o644))
	must.Succeed(t, os.WriteFile(empty, nil, 0o600))
	secret := filepath.Join(dir, "secret")
	must.Succeed(t, os.WriteFile(secret, []byte("bearer:abc"), 0o600))
	with := func(key, value string) string { // minimal, with one more line in its table
		table, name, _ := strings.Cut(key, ".")
		switch table {
		case "proxy":
			return strings.Replace(minimal, "[[proxy]]", "[[proxy]]\n"+name+" = "+value, 1)
		case "gateway":
			return strings.Replace(minimal, "[gateway]", "[gateway]\n"+name+" = "+value, 1)
		}
		return minimal + "[" + table + "]\n" + name + " = " + value
	}
	url := func(u string) string { return strings.Replace(minimal, "https://files.example.org", u, 1) }
	kubo := func(more string) string { return minimal + "[store]\nkind = \"kubo\"\n[store.kubo]\n" + more }
	tests := []struct{ name, text, key, remedy string }{
		{"unknown key", with("store.knd", `"kubo"`), "store.knd: unknown key", "did you mean store.kind?"},
		{"unknown key of a proxy", with("proxy.min_sise", `"1MB"`), "proxy.min_sise: unknown key", "did you mean proxy.min_size?"},
		{"unknown table", minimal + "[colour]\nred = 1", "colour.red: unknown key", "remove it"},
		{"not TOML", "data_dir = ", "line 1", "docs/detach.toml"},
		{"wrong type", with("proxy.listen", "7"), "proxy.listen", "docs/detach.toml"},
		{"wrong type of a size", with("proxy.min_size", "true"), "min_size", "write a whole number"},
		{"a name of a web server", with("gateway.trusted_proxies", `"web.example.org"`), "gateway.trusted_proxies", "write them as 10.0.0.5"},
		{"bits behind a network's length", with("gateway.trusted_proxies", `"10.0.0.5/8"`), "gateway.trusted_proxies", "write them as"},
		{"bad size", with("proxy.min_size", `"64 kilobytes"`), "proxy.min_size", "write a whole number with a unit"},
		{"negative size", with("proxy.min_size", "-1"), "proxy.min_size", "write a whole number"},
		{"size too large for 64 bits", with("proxy.max_size", `"9999999TiB"`), "proxy.max_size", "write a whole number"},
		{"bad time", with("keys.retention", `"a month"`), "keys.retention", "as 90s, 12h or 30d"},
		{"negative time", with("keys.retention", `"-1d"`), "keys.retention", "as 90s"},
		{"time too long", with("keys.retention", `"99999999d"`), "keys.retention", "as 90s"},
		{"retention within a day", with("keys.retention", `"30m"`), "keys.retention", "write 1d or more"},
		{"retention of a listener within a day", with("proxy.retention", `"59m"`), "proxy[0].retention", "write 1d or more"},
		{"retention of a listener in words", with("proxy.retention", `"forever"`), "proxy.retention", "as 90s"},
		{"no grace", with("keys.grace", `"0"`), "keys.grace", "7d is usual"},
		{"negative grace", with("keys.grace", `"-7d"`), "keys.grace", "as 90s"},
		{"escrow for a name", with("keys.escrow", `"alice"`), "keys.escrow: recipient 1", "write the public key"},
		{"escrow with a typo", with("keys.escrow", `"`+alice+" "+strings.Replace(bob, bob[20:22], "qq", 1)+`"`), "keys.escrow: recipient 2", "write the public key"},
		{"escrow for too many", with("keys.escrow", `"`+strings.Repeat(alice+" ", 5)+`"`), "keys.escrow: 5 recipients", "at most 4"},
		{"relative data_dir", "data_dir = \"data\"\n" + minimal, "data_dir", "begin it with /"},
		{"no url", "", "gateway.url: missing", "as https://"},
		{"url without scheme", url("files.example.org"), "gateway.url", "write https://host"},
		{"url of FTP", url("ftp://files.example.org"), "gateway.url", "begin it with https://"},
		{"url without host", url("https:///files"), "gateway.url", "write https://host"},
		{"url with user", url("https://me:pw@files.example.org"), "gateway.url", "leave out user"},
		{"url with query", url("https://files.example.org/?a=b"), "gateway.url", "leave out user, ?"},
		{"url with fragment", url("https://files.example.org/#"), "gateway.url", "leave out"},
		{"url with dots", url("https://files.example.org/a/../b"), "gateway.url", "plain letters"},
		{"url with escapes", url("https://files.example.org/a%20b"), "gateway.url", "plain letters"},
		{"name of two lines", `gateway.name = "a\nb"`, "gateway.name", "make it one line"},
		{"plain http", url("http://files.example.org"), "gateway.url", "use https://"},
		{"plain http on a private address", url("http://192.168.1.2"), "gateway.url", "use https://"},
		{"plain http on a name like localhost", url("http://localhost.example.org"), "gateway.url", "use https://"},
		{"no reinject", strings.Replace(minimal, "reinject", "#", 1), "proxy[0].reinject: missing", "as 127.0.0.1:10026"},
		{"reinject without port", strings.Replace(minimal, "127.0.0.1:10026", "127.0.0.1", 1), "proxy[0].reinject", "write host:port"},
		{"reinject into itself", with("proxy.listen", `"127.0.0.1:10026"`), "proxy[0].reinject", "name the Postfix behind it"},
		{"reinject into itself through everywhere", with("proxy.listen", `":10026"`), "proxy[0].reinject", "name the Postfix behind it"},
		{"no listen", with("proxy.listen", `""`), "proxy[0].listen", "write host:port"},
		{"relative socket", with("proxy.listen", `"unix:smtp"`), "proxy[0].listen", "unix:/path"},
		{"port too high", with("admin.listen", `"127.0.0.1:70000"`), "admin.listen", "write host:port"},
		{"two proxies on one address", minimal + "[[proxy]]\nreinject = \"127.0.0.1:10027\"", "proxy[1].listen", "its own port"},
		{"gateway on the proxy's port", with("gateway.listen", `"0.0.0.0:10025"`), "proxy[0].listen", "its own port"},
		{"admin on the gateway's port", with("admin.listen", `"127.0.0.1:8080"`), "admin.listen", "its own port"},
		{"two on one socket", with("gateway.listen", `"unix:/run/a"`) + "[admin]\nlisten = \"unix:/run/a\"", "admin.listen", "its own port"},
		{"unknown on_failure", with("proxy.on_failure", `"bounce"`), "proxy[0].on_failure", `"tempfail" or "deliver"`},
		{"unknown notice", with("proxy.notice", `"middle"`), "proxy[0].notice", `"bottom" or "top"`},
		{"unknown language", with("proxy.language", `"tlh"`), "proxy[0].language", `"auto" or "en" or "de"`},
		{"omitting a field with its colon", with("proxy.restore_omit", `["X-Originating-IP:"]`), "proxy[0].restore_omit", "without the colon"},
		{"omitting a pattern", with("proxy.restore_omit", `["/^X-Foo/ IGNORE"]`), "proxy[0].restore_omit", "as X-Originating-IP"},
		{"sender limit below min_size", with("proxy.sender_limit", `"1KB"`), "proxy[0].sender_limit", "raise it"},
		{"omitting nothing", with("proxy.restore_omit", `[""]`), "proxy[0].restore_omit", "as X-Originating-IP"},
		{"omitting a field in another alphabet", with("proxy.restore_omit", `["Betreff-ü"]`), "proxy[0].restore_omit", "as X-Originating-IP"},
		{"omitting the link to the original", with("proxy.restore_omit", `["User-Agent", "detach-restore"]`), `"detach-restore"`, "leave it out"},
		{"omitting the structure", with("proxy.restore_omit", `["Content-Type"]`), "proxy[0].restore_omit", "leave it out"},
		{"omitting the sender", with("proxy.restore_omit", `["FROM"]`), "proxy[0].restore_omit", "leave it out"},
		{"omitting no list", with("proxy.restore_omit", `"User-Agent"`), "restore_omit", "docs/detach.toml"},
		{"min_size that detaches nothing", with("proxy.min_size", `"64GiB"`), "proxy[0].min_size", "64KiB is usual"},
		{"max_size below min_size", with("proxy.max_size", `"1KiB"`), "proxy[0].max_size", "raise it"},
		{"unknown store", with("store.kind", `"s3"`), "store.kind", `"embedded" or "kubo"`},
		{"bad min_free", with("store.min_free", `"5 percent"`), "store.min_free", "write a whole number with a unit"},
		{"min_free of the whole disk", with("store.min_free", `"100%"`), "store.min_free", "as 5%"},
		{"unknown second store", with("store.also", `"s3"`), "store.also", `"embedded" or "kubo"`},
		{"one store twice", with("store.also", `"embedded"`), "store.also", "the store that still has older objects"},
		{"bad multiaddr of the second store", with("store.also", "\"kubo\"\n[store.kubo]\napi = \"kubo\""), "store.kubo.api", "write a multiaddr"},
		{"bad multiaddr", kubo(`api = "/ip4/127.0.0.1/prt/5001"`), "store.kubo.api", "write a multiaddr"},
		{"bad api URL", kubo(`api = "localhost:5001"`), "store.kubo.api", "write a multiaddr"},
		{"token that others can read", kubo(`token_file = "` + open + `"`), "store.kubo.token_file", "chmod 0600"},
		{"missing token file", kubo(`token_file = "` + dir + `/none"`), "store.kubo.token_file", "write kubo's API secret there"},
		{"empty token file", kubo(`token_file = "` + empty + `"`), "store.kubo.token_file", "write kubo's API secret there"},
		{"token over the network", kubo("api = \"http://kubo.example.net:5001\"\ntoken_file = \"" + secret + `"`), "store.kubo.token_file", "by https://"},
		{"unknown mode", with("keys.mode", `"whole"`), "keys.mode", `"split" or "link"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text, nil)
			if err == nil {
				t.Fatalf("accepted:\n%s", tt.text)
			}
			if msg := err.Error(); !strings.Contains(msg, tt.key) || !strings.Contains(msg, tt.remedy) {
				t.Errorf("error %q does not name %q and %q", msg, tt.key, tt.remedy)
			}
		})
	}
}

func TestUsualAddressesAreAccepted(t *testing.T) {
	for _, url := range []string{"https://files.example.org", "https://files.example.org:8443/a/b-c/", "http://127.0.0.1:8080", "http://[::1]",
		"http://localhost/x", "http://files.localhost", "https://xn--bcher-kva.example"} {
		if _, err := Parse(strings.Replace(minimal, "https://files.example.org", url, 1), nil); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, api := range []string{"/dns4/kubo/tcp/5001", "/ip6/::1/tcp/5001", "http://127.0.0.1:5001", "https://ipfs.example.org"} {
		if _, err := Parse(minimal+"[store]\nkind = \"kubo\"\n[store.kubo]\napi = \""+api+"\"", nil); err != nil {
			t.Errorf("%s: %v", api, err)
		}
	}
	// Port 0 is a new port each time.
	if _, err := Parse("[gateway]\nlisten = \"127.0.0.1:0\"\nurl = \"http://localhost\"\n[admin]\nlisten = \"127.0.0.1:0\"", nil); err != nil {
		t.Error(err)
	}
}

func TestSizesHaveUnits(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1": 1, "512B": 512, "64KiB": 65536, "64 KiB": 65536, "64kb": 64000, "25MB": 25e6, "2GiB": 2 << 30} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "KiB", "1.5GB", "1K", "0x10", "1KiBKiB", "1 2"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: accepted as a size", text)
		}
	}
}

func TestMinFreeIsAPartOrASize(t *testing.T) {
	const tib = 1 << 40
	for text, want := range map[string]int64{"5%": tib / 100 * 5, " 1 %": tib / 100, "10GiB": 10 << 30, "0": 0, "0%": 0, "1MiB": 1 << 20} {
		var got MinFree
		if err := got.UnmarshalText([]byte(text)); err != nil || got.Of(tib) != want {
			t.Errorf("%q of 1 TiB = %d, %v, want %d", text, got.Of(tib), err, want)
		}
	}
	// A percentage is at least 1 GiB, also of a disk that has no more.
	if got := (MinFree{Percent: 5}).Of(64 << 20); got != 1<<30 {
		t.Errorf("5%% of 64 MiB = %d, want 1 GiB", got)
	}
	for _, text := range []string{"", "%", "100%", "-1%", "5.5%", "5%GiB", "a lot"} {
		if err := new(MinFree).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

// The comments of the fields are the reference.
func TestEveryFieldIsDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	must.Succeed(t, err)
	fields := 0
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, f := range gen.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType).Fields.List {
			fields++
			if !strings.HasPrefix(f.Doc.Text(), f.Names[0].Name+" ") {
				t.Errorf("%s has no comment that begins with its name", f.Names[0].Name)
			}
		}
	}
	if fields < 20 {
		t.Errorf("only %d fields seen", fields)
	}
}

// The secret of kubo's API leaves this machine under TLS only, in every form of address.
func TestTokenNeverGoesInTheClear(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	must.Succeed(t, os.WriteFile(file, []byte("bearer:abc"), 0o600))
	for api, clear := range map[string]bool{
		"/ip4/127.0.0.1/tcp/5001": false, "/ip6/::1/tcp/5001": false, "/dns4/localhost/tcp/5001": false, "/unix/run/kubo/api.sock": false,
		"http://127.0.0.9:5001": false, "http://[::1]:5001": false, "http://localhost:5001": false, "https://kubo.example.net": false,
		"/dns/kubo.example.net/tcp/443/https": false, "/ip4/192.0.2.1/tcp/5001/tls/http": false, "/ip4/192.0.2.1/tcp/443/tls": false,
		"/ip4/192.0.2.1/tcp/5001": true, "/ip4/192.0.2.1/tcp/5001/http": true, "/ip4/0.0.0.0/tcp/5001": true, "/ip6/2001:db8::1/tcp/5001": true,
		"/ip6zone/eth0/ip6/fe80::1/tcp/5001": true, "/dns/kubo/tcp/5001": true, "/dns4/kubo/tcp/5001": true, "/dns6/localhost.example.net/tcp/5001": true,
		"/dnsaddr/kubo.example.net/tcp/5001": true, "http://kubo.example.net:5001": true, "HTTP://10.0.0.1:5001": true, "http://127.0.0.1.example.net": true,
	} {
		k := Kubo{API: api, TokenFile: file}
		if token, err := k.Token(); (err != nil) != clear || clear == (token != "") {
			t.Errorf("%s: token %q, error %v, want an error: %v", api, token, err, clear)
		}
		if k.TokenFile = ""; k.InTheClear() != clear {
			t.Errorf("%s: InTheClear is %v, want %v", api, !clear, clear)
		}
	}
}

func TestListenerWithoutRetentionHasThatOfTheKeys(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 30 * day, `retention = ""`: 30 * day, `retention = 0`: 0, `retention = "90d"`: 90 * day} {
		c, err := Parse(strings.Replace(minimal, "[[proxy]]", "[[proxy]]\n"+text, 1)+"[keys]\nretention = \"30d\"", nil)
		must.Succeed(t, err)
		if got := c.RetentionOf(c.Proxy[0]); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// Somebody who pastes the wrong line of age-keygen's output gets no copy of it on the terminal.
func TestSecretKeyOfTheEscrowIsRefusedAndNotPrinted(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	must.Succeed(t, err)
	for _, secret := range []string{id.String(), strings.ToLower(id.String()), "age1" + id.String()[16:], id.String()[:40]} {
		_, err = Parse(minimal+"[keys]\nescrow = \""+secret+"\"", nil)
		if err == nil || !strings.Contains(err.Error(), "keys.escrow") || strings.Contains(strings.ToLower(err.Error()), strings.ToLower(secret[20:30])) {
			t.Errorf("got %v", err)
		}
	}
}

func TestEscrowTakesPostQuantumRecipientsAmongThemselves(t *testing.T) {
	var pq Escrow
	for range maxEscrow {
		id, err := age.GenerateHybridIdentity()
		must.Succeed(t, err)
		pq = append(pq, id.Recipient().String())
	}
	got, err := pq.Recipients()
	if err != nil || len(got) != maxEscrow {
		t.Errorf("got %d recipients, %v", len(got), err)
	}
	if _, err := (Escrow{alice, pq[0]}).Recipients(); err == nil || !strings.Contains(err.Error(), "together") {
		t.Errorf("a mixed escrow: %v", err)
	}
}
