package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/config"
)

// listeners are the addresses that detach serve listens on: proxy has one for each [[proxy]], the
// others may be nil.
type listeners struct {
	proxy          []net.Listener
	gateway, admin net.Listener
}

func listenAll(ctx context.Context, cfg config.Config) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for i, p := range cfg.Proxy {
		one, err := listen(ctx, fmt.Sprintf("proxy[%d].listen", i), p.Listen)
		if err != nil {
			return l, err
		}
		l.proxy = append(l.proxy, one)
	}
	if cfg.Gateway.Listen != "" {
		if l.gateway, err = listen(ctx, "gateway.listen", cfg.Gateway.Listen); err != nil {
			return l, err
		}
	}
	if cfg.Admin.Listen != "" {
		l.admin, err = listen(ctx, "admin.listen", cfg.Admin.Listen)
	}
	return l, err
}

func (l listeners) close() {
	for _, one := range append(l.proxy, l.gateway, l.admin) {
		if one != nil {
			one.Close()
		}
	}
}

// listen opens the address in a key of the configuration.
func listen(ctx context.Context, key, address string) (net.Listener, error) {
	network, addr := config.Network(address)
	if network == "unix" {
		removeStale(ctx, addr)
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, addr)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w: is another Detach running? Else choose another address", key, err)}
	}
	if network == "unix" {
		// Connecting needs the right to write. Postfix and the web server get it as members of our
		// group.
		if err := os.Chmod(addr, 0o660); err != nil {
			return nil, errors.Join(usageError{fmt.Errorf("%s: %w", key, err)}, l.Close())
		}
	}
	return l, nil
}

// removeStale removes a socket that a killed process left: connecting to it is refused.
func removeStale(ctx context.Context, path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return
	}
	if isRefused(err) {
		_ = os.Remove(path) // if it stays, listening fails and says why
	}
}

// notify reports a state to systemd, if its unit has Type=notify (sd_notify(3)).
func notify(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	if c, err := net.Dial("unixgram", socket); err == nil {
		_, _ = c.Write([]byte(state))
		c.Close()
	}
}
