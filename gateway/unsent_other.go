//go:build !linux

package gateway

import (
	"context"
	"net"
)

// ConnContext does nothing here. On Linux it bounds the kernel's buffer for a slow client.
func ConnContext(ctx context.Context, _ net.Conn) context.Context { return ctx }
