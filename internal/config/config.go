package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// Config is everything that can be set.
type Config struct {
	// DataDir holds the embedded store, the keyring, the ledger and the deny list: an absolute path
	// where only Detach writes. Default /var/lib/detach.
	DataDir string `toml:"data_dir"`
	// Proxy has one entry for each SMTP listener. Without one, this process is not a proxy.
	Proxy []Proxy `toml:"proxy"`
	// Store is where sealed attachments go.
	Store Store `toml:"store"`
	// Keys is the policy of the file keys.
	Keys Keys `toml:"keys"`
	// Gateway is where recipients download attachments.
	Gateway Gateway `toml:"gateway"`
	// Admin is the listener for the administrator.
	Admin Admin `toml:"admin"`
}

// Proxy is one SMTP listener, the next hop behind it and the policy between them.
type Proxy struct {
	// Listen is where Postfix's smtpd_proxy_filter connects: host:port or unix:/path.
	// Default 127.0.0.1:10025.
	Listen string `toml:"listen"`
	// Reinject is the next hop, for rewritten mail: host:port or unix:/path. No default.
	Reinject string `toml:"reinject"`
	// OnFailure says what happens if attachments cannot be stored: "tempfail" answers 451, and the
	// client tries again; "deliver" passes the original on. Default "tempfail".
	OnFailure string `toml:"on_failure"`
	// MinSize is the decoded size from which an attachment is detached: bytes, or with a unit
	// (64KiB, 25MB). Default 64KiB.
	MinSize Size `toml:"min_size"`
	// MaxSize is the largest mail accepted, as it arrives. 0, the default, is the limit that the
	// next hop advertises.
	MaxSize Size `toml:"max_size"`
	// SenderLimit is how many bytes of attachments, decoded, are stored for each sender and day
	// (UTC). Beyond it nothing is stored, and OnFailure decides. Default 0: no limit.
	SenderLimit Size `toml:"sender_limit"`
	// Notice is where the links stand in the text: "bottom" or "top". Default "bottom".
	Notice string `toml:"notice"`
	// Language is that of the notice: "auto" for the message's own, or the code of a file in
	// internal/texts/languages, as "en". Default "auto".
	Language string `toml:"language"`
	// Restore stores with each mail what turns it back into the original, byte for byte. Default
	// true.
	Restore bool `toml:"restore"`
	// RestoreOmit names fields of the mail's own header that are not stored, and so not restored,
	// in any case: those that the mail servers behind remove, such as X-Originating-IP. Bcc,
	// Resent-Bcc, Return-Path and Content-Length are never stored. Default: only these.
	RestoreOmit []string `toml:"restore_omit"`
	// Retention is how long the links in this listener's mails work: as [Keys.Retention], or "" for
	// the same. [Config.RetentionOf] returns the one that holds. Default "".
	Retention Retention `toml:"retention"`
}

// Store is the storage of sealed attachments.
type Store struct {
	// Kind is "embedded" (files in data_dir) or "kubo" (an IPFS node). Default "embedded".
	Kind string `toml:"kind"`
	// Also is the kind of a second store, from which objects are read that the first one does not
	// have: while detach migrate moves them. Default "": none.
	Also string `toml:"also"`
	// MinFree is how much must stay free in data_dir's file system and, with kubo, of the node's
	// Datastore.StorageMax: a percentage ("5%", but at least 1 GiB) or a size ("10GiB"). Below it,
	// attachments are not stored. "0": no minimum. Default 5%.
	MinFree MinFree `toml:"min_free"`
	// Kubo is the node of kind "kubo", whether kind or also names it.
	Kubo Kubo `toml:"kubo"`
}

// Kubo is an IPFS node.
type Kubo struct {
	// API is kubo's RPC: a multiaddr (/ip4/…/tcp/5001, /unix/path) or an http(s):// URL. For https
	// the CAs are the system's, or those in the file that SSL_CERT_FILE in the environment names.
	// Default /ip4/127.0.0.1/tcp/5001.
	API string `toml:"api"`
	// TokenFile holds the secret of kubo's API.Authorizations: "bearer:TOKEN",
	// "basic:USER:PASSWORD" or a bare bearer token. Only its owner (and group) may read it. Read
	// again for each request, so it can be replaced at any time. Refused with plain HTTP to another
	// machine. Default "": no authorization.
	TokenFile string `toml:"token_file"`
}

// Keys is the policy of the file keys.
type Keys struct {
	// Mode is "split" (a link needs this installation's keyring too, so it can be revoked) or
	// "link" (the link alone opens the file, forever and through any gateway). Default "split".
	Mode string `toml:"mode"`
	// Retention is how long a link works, as 30d: a link ends with a day (UTC), and works at least
	// that long and at most a day longer. 0, the default, is forever. At least 1h otherwise. A
	// changed retention is that of new mails.
	Retention Duration `toml:"retention"`
	// Grace is how long a revoked file can be given back (detach revoke --undo). After it, the
	// file's key is destroyed. At least 1h. Default 7d.
	Grace Duration `toml:"grace"`
	// Escrow names age recipients who can open every file that is stored from now on, without its
	// link: public keys (age1…), separated by blanks, at most 4. Each file's key is sealed for them
	// into the object, so they can open files that were revoked, too. Default "": nobody.
	Escrow Escrow `toml:"escrow"`
}

// RetentionOf returns how long the links in the mails of a listener work. 0 is forever.
func (c *Config) RetentionOf(p Proxy) time.Duration {
	if p.Retention.Own {
		return time.Duration(p.Retention.Duration)
	}
	return time.Duration(c.Keys.Retention)
}

// Gateway is the web server that recipients see.
type Gateway struct {
	// Listen is its address, host:port or unix:/path, for a reverse proxy with TLS in front. "":
	// this process is not a gateway. Default 127.0.0.1:8080.
	Listen string `toml:"listen"`
	// URL is what links begin with, https://host or https://host/prefix; plain http:// only on a
	// loopback address. No default.
	URL string `toml:"url"`
	// Name is the operator's, shown above each file and in the mails' notices: one line of at most
	// 100 bytes. Default "": the host of URL.
	Name string `toml:"name"`
	// Logo is shown beside the name: a PNG, JPEG, WebP or SVG file of at most 12 KiB. Default "":
	// none.
	Logo string `toml:"logo"`
	// Color is the button's, as #1a56c4. Default "": blue.
	Color string `toml:"color"`
	// Contact is where recipients report misuse: a mail address or an https:// URL. Default "": the
	// pages name none.
	Contact string `toml:"contact"`
	// TrustedProxies are the web servers in front on other machines, whose X-Forwarded-For is
	// believed: addresses and networks, separated by blanks, such as "10.0.0.5 172.16.0.0/12".
	// Default "": only web servers on this machine.
	TrustedProxies Networks `toml:"trusted_proxies"`
	// View lets recipients look at pictures, sound, video, text and PDF files in the page. Default
	// true.
	View bool `toml:"view"`
}

// Admin is the listener for /metrics, /healthz, /readyz and /debug/pprof/.
type Admin struct {
	// Listen is its address, host:port or unix:/path; keep it local. "" switches it off.
	// Default 127.0.0.1:9090.
	Listen string `toml:"listen"`
}

// Default returns the configuration of an empty file. It lacks gateway.url.
func Default() Config {
	return Config{
		DataDir: "/var/lib/detach",
		Store:   Store{Kind: "embedded", MinFree: MinFree{Percent: 5}, Kubo: Kubo{API: "/ip4/127.0.0.1/tcp/5001"}},
		Keys:    Keys{Mode: "split", Grace: Duration(7 * day)},
		Gateway: Gateway{Listen: "127.0.0.1:8080", View: true},
		Admin:   Admin{Listen: "127.0.0.1:9090"},
	}
}

// DefaultProxy returns the configuration of an empty [[proxy]]. It lacks reinject.
func DefaultProxy() Proxy {
	return Proxy{Listen: "127.0.0.1:10025", OnFailure: "tempfail", MinSize: 64 << 10, Notice: "bottom", Language: "auto", Restore: true, RestoreOmit: []string{}}
}

// Load reads the file, overrides it with environ (as os.Environ returns it), and checks the result.
// The error has one line for each mistake.
func Load(path string, environ []string) (Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("--config: %s does not exist: name the configuration file; docs/detach.toml is one to start from", path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("--config: %w: let this user read it", err)
	}
	return Parse(string(text), environ)
}

// Parse is Load for the text of a file.
func Parse(text string, environ []string) (Config, error) {
	c, err := decode(text)
	if err != nil {
		return Config{}, err
	}
	if err := override(&c, environ); err != nil {
		return Config{}, err
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	c.Gateway.URL, err = link.ParseBase(c.Gateway.URL)
	return c, err
}

func decode(text string) (Config, error) {
	// The decoder gives new array entries no defaults, so each entry is decoded over DefaultProxy.
	file := struct {
		*Config
		Proxy []toml.Primitive `toml:"proxy"`
	}{Config: new(Default())}
	md, err := toml.Decode(text, &file)
	if err != nil {
		return Config{}, explain(err)
	}
	for _, table := range file.Proxy {
		p := DefaultProxy()
		if err := md.PrimitiveDecode(table, &p); err != nil {
			return Config{}, explain(err)
		}
		file.Config.Proxy = append(file.Config.Proxy, p)
	}
	var unknown []error
	for _, key := range md.Undecoded() {
		unknown = append(unknown, fmt.Errorf("%s: unknown key: %s", key, remedy(key.String(), keys())))
	}
	return *file.Config, errors.Join(unknown...)
}

// explain names the line and the key that the decoder refused.
func explain(err error) error {
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		where := fmt.Sprintf("line %d", e.Position.Line)
		if e.LastKey != "" {
			where = e.LastKey + ": " + where
		}
		return fmt.Errorf("%s: %s (see docs/detach.toml)", where, strings.TrimPrefix(e.Message, "toml: "))
	}
	return fmt.Errorf("%s (see docs/detach.toml)", strings.TrimPrefix(err.Error(), "toml: "))
}
