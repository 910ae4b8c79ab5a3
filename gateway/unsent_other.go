//go:build !linux

package gateway

import (
	"context"
	"net"
)

// ConnContext is for an http.Server. On Linux it bounds what waits in the kernel for a slow client.
func ConnContext(ctx context.Context, _ net.Conn) context.Context { return ctx }
