package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/internal/config"
	"github.com/nkirchhoffer/detach-mta/internal/progress"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

type checkCmd struct {
	configFlag
}

// Run tries everything the configuration names, in the order in which a mail needs it. With what serve would not start with, the exit
// code is serve's.
func (c *checkCmd) Run(e *env) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := refuseIdle(cfg); err != nil {
		return err
	}
	r := &report{w: e.stdout}
	r.ok("configuration", "%s is understood", c.Config)
	if r.dataDir(cfg.DataDir) {
		r.stored(e.ctx, cfg)
	}
	running := answersAsDetach(e.ctx, cfg.Admin.Listen)
	for i, p := range cfg.Proxy {
		r.nextHop(e.ctx, fmt.Sprintf("proxy[%d].reinject", i), p.Reinject)
		r.address(e.ctx, fmt.Sprintf("proxy[%d].listen", i), p.Listen, running)
	}
	r.address(e.ctx, "gateway.listen", cfg.Gateway.Listen, running)
	r.address(e.ctx, "admin.listen", cfg.Admin.Listen, running)
	r.url(e.ctx, cfg.Gateway.URL, running)
	if _, err := loadBrand(cfg.Gateway); err != nil {
		r.refuse("gateway", "%v", err)
	}
	switch {
	case r.refused > 0:
		return usageError{fmt.Errorf("%d to mend, before detach serve starts", r.failed)}
	case r.failed > 0:
		return fmt.Errorf("%d to mend", r.failed)
	}
	return nil
}

// report writes a line for each thing tried.
type report struct {
	w       io.Writer
	failed  int
	refused int // of those, what serve would not start with
}

func (r *report) line(result, what, format string, args ...any) {
	fmt.Fprintf(r.w, "%-4s  %-18s  %s\n", result, what, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

func (r *report) ok(what, format string, args ...any)   { r.line("ok", what, format, args...) }
func (r *report) warn(what, format string, args ...any) { r.line("warn", what, format, args...) }

func (r *report) fail(what, format string, args ...any) {
	r.failed++
	r.line("FAIL", what, format, args...)
}

func (r *report) refuse(what, format string, args ...any) {
	r.refused++
	r.fail(what, format, args...)
}

// dataDir reports whether it is there and ours. To make it, or to write there as somebody else, would leave files that the service
// cannot use afterwards.
func (r *report) dataDir(dir string) bool {
	const key = "data_dir"
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		say := r.fail
		if mayWrite(existing(dir)) != nil { // else serve makes it
			say = r.refuse
		}
		say(key, "%s does not exist: make it, mode 0700, for the user that runs Detach", dir)
		return false
	case err != nil:
		r.refuse(key, "%v: let this user use it, or name another", err)
		return false
	case !info.IsDir():
		r.refuse(key, "%s is no directory: name another", dir)
		return false
	case !ownedByUs(info):
		r.refuse(key, "%s belongs to another user: run this as the user that runs Detach", dir)
		return false
	case info.Mode().Perm()&0o077 != 0:
		r.warn(key, "others may enter %s (mode %04o): chmod 0700 %[1]s", dir, info.Mode().Perm())
	}
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		r.fail(key, "%v: let this user write there", err)
		return false
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		r.fail(key, "%v", err)
		return false
	}
	r.ok(key, "%s can be written", dir)
	return true
}

// stored opens keyring, store and ledger, and has the store take something.
func (r *report) stored(ctx context.Context, cfg config.Config) {
	if _, err := crypto.OpenKeyring(filepath.Join(cfg.DataDir, "keys")); err != nil {
		r.refuse("keys", "data_dir: %v", err)
		return
	}
	r.ok("keys", "the keyring is readable by us alone; back it up, for without it no link opens")
	a, err := openApp(cfg)
	if err != nil {
		r.refuse("store", "%v: let this user use it", err)
		return
	}
	defer a.Close()
	if err := a.checkStore(ctx); err != nil {
		r.fail("store", "%v: start it, or mend store.api and store.token_file; until then attachments are answered with 451", err)
		return
	}
	r.ok("store", "%s: written, read and deleted", cfg.Store.Kind)
	if kubo, ok := a.store.(*ipfs.Kubo); ok {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		for _, w := range kubo.Warnings(ctx) {
			r.warn("store", "%s", w)
		}
	}
}

func (r *report) nextHop(ctx context.Context, key, address string) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	g, err := greet(ctx, address)
	if err != nil {
		r.fail(key, "%s does not answer as a mail server (%v): start the Postfix behind, or mend the address", address, err)
		return
	}
	limit := "no limit of size"
	if g.size > 0 {
		limit = progress.Bytes(int64(g.size)) + " at most"
	}
	r.ok(key, "%s answers EHLO; %s", address, limit)
	if !g.xforward {
		r.warn(key, "no XFORWARD, so its log will name Detach as the client: set smtpd_authorized_xforward_hosts there")
	}
	if !g.eightBit {
		r.warn(key, "no 8BITMIME, so mail with 8-bit text cannot pass: do not switch it off there")
	}
}

// address tells whether a listener could open, or is open already in the Detach that runs.
func (r *report) address(ctx context.Context, key, address string, running bool) {
	if address == "" {
		r.ok(key, "switched off")
		return
	}
	network, addr := config.Network(address)
	if network == "unix" {
		// Only asked: to listen would take the socket away from who has it.
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			c.Close()
		}
		r.taken(key, address, err == nil, running, cannotBind(addr))
		return
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if err == nil {
		l.Close()
	}
	used := isInUse(err)
	if used {
		err = nil
	}
	r.taken(key, address, used, running, err)
}

// cannotBind tells why a unix socket could not be made.
func cannotBind(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there, and no socket", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("%s is too long for a socket", path)
	}
	if err := mayWrite(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: %w", filepath.Dir(path), err)
	}
	return nil
}

// maxSocketPath is sun_path of Linux without the zero at its end (unix(7)).
const maxSocketPath = 107

// existing is the path, or the nearest above that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

func (r *report) taken(key, address string, used, running bool, err error) {
	switch {
	case err != nil:
		r.refuse(key, "%v: choose another address", err)
	case !used:
		r.ok(key, "%s is free", address)
	case running:
		r.ok(key, "%s is in use, and Detach is running", address)
	default:
		r.refuse(key, "%s is in use by another program: stop it, or choose another address", address)
	}
}

// answersAsDetach asks the metrics, which have our name in them.
func answersAsDetach(ctx context.Context, address string) bool {
	if address == "" {
		return false
	}
	network, addr := config.Network(address)
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	_, body, err := get(ctx, client, "http://admin/metrics")
	return err == nil && strings.Contains(body, "\ndetach_")
}

// url tells whether recipients may reach the gateway. From here the answer can be another than from outside, so it is only a warning.
func (r *report) url(ctx context.Context, url string, running bool) {
	const key = "gateway.url"
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	status, _, err := get(ctx, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}, url+"/")
	switch {
	case err == nil && status == http.StatusOK:
		r.ok(key, "%s answers", url)
	case err == nil:
		r.warn(key, "%s answers %d %s: lead it to gateway.listen", url, status, http.StatusText(status))
	case !running:
		r.warn(key, "%s does not answer, nor does Detach run: check again when it does", url)
	default:
		r.warn(key, "%v: lead it to gateway.listen, unless it is only from here that it cannot be reached", err)
	}
}

func get(ctx context.Context, client *http.Client, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}
