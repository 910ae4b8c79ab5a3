//go:build !linux

package gateway

import (
	"context"
	"net"
)

// ConnContext is for an http.Server. On Linux it bounds what the kernel holds for a slow client;
// here it does nothing.
func ConnContext(ctx context.Context, _ net.Conn) context.Context { return ctx }
