package main

import (
	"context"
	"net"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/config"
)

// greeting is what a next hop says of itself.
type greeting struct {
	xforward, eightBit bool
	size               int // 0: no limit
}

// greet says EHLO to a mail server, and goodbye.
func greet(ctx context.Context, address string) (greeting, error) {
	network, addr := config.Network(address)
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return greeting{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.Hello("localhost"); err != nil {
		return greeting{}, err
	}
	var g greeting
	g.xforward, _ = c.Extension("XFORWARD")
	g.eightBit, _ = c.Extension("8BITMIME")
	g.size, _ = c.MaxMessageSize()
	return g, c.Quit()
}
