//go:build !unix

package proxy

import "net"

// hasUnread always reports false: without MSG_PEEK an unsolicited reply is noticed only if it was
// read together with another.
func hasUnread(net.Conn) bool { return false }
