package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// offered are the EHLO keywords that still hold with us in between: they are about the envelope, or
// about bytes that we pass on. CHUNKING and BINARYMIME would bring data without a final dot;
// STARTTLS and AUTH are the task of the server before us. No unknown keyword is offered.
var offered = []string{
	"SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "XFORWARD", "VRFY", "ETRN", "PIPELINING",
}

// filterEHLO keeps the greeting and the offered keywords of an EHLO reply, and sets SIZE to limit,
// or leaves the next hop's if limit is 0. It returns the limit that is in force, 0 for none.
func filterEHLO(a answer, limit int64) (answer, int64) {
	lines := bytes.Split(bytes.TrimSuffix(a.text, crlf), crlf)
	kept := lines[:1]
	for _, line := range lines[1:] {
		fields := bytes.Fields(line[min(4, len(line)):])
		if len(fields) == 0 || !slices.Contains(offered, strings.ToUpper(string(fields[0]))) {
			continue
		}
		if bytes.EqualFold(fields[0], []byte("SIZE")) {
			if limit == 0 && len(fields) > 1 {
				n, err := strconv.ParseInt(string(fields[1]), 10, 64)
				if err == nil { // a malformed value is no limit
					limit = max(n, 0)
				}
			}
			line = fmt.Appendf(nil, "250 SIZE %d", limit)
		}
		kept = append(kept, line)
	}
	out := answer{code: a.code}
	for i, line := range kept {
		sep := byte('-')
		if i == len(kept)-1 {
			sep = ' '
		}
		out.text = fmt.Appendf(out.text, "%d%c%s\r\n", a.code, sep, line[min(4, len(line)):])
	}
	return out, limit
}

// takeSize removes the SIZE parameter from a MAIL command (RFC 1870), because the next hop will
// never see a mail of that size. All other bytes stay. It fails if the size exceeds the limit.
func takeSize(line []byte, limit int64) ([]byte, error) {
	_, at := path(line)
	out := slices.Clone(line[:at])
	for rest := line[at:]; len(rest) > 0; {
		blank := len(rest) - len(bytes.TrimLeft(rest, " \t"))
		end := len(rest)
		if i := bytes.IndexAny(rest[blank:], " \t"); i >= 0 {
			end = blank + i
		}
		param := rest[blank:end]
		if blank > 0 && len(param) > 5 && bytes.EqualFold(param[:5], []byte("SIZE=")) {
			if err := checkSize(string(param[5:]), limit); err != nil {
				return nil, err
			}
		} else {
			out = append(out, rest[:end]...)
		}
		rest = rest[end:]
	}
	return out, nil
}

func checkSize(value string, limit int64) error {
	size, err := strconv.ParseUint(value, 10, 64) // up to 20 digits: RFC 1870 section 4
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return errBadSize
	}
	if limit > 0 && size > uint64(limit) {
		return errTooBig
	}
	return nil
}

// path finds the path of a MAIL or RCPT command, which a client may write without angle brackets. A
// quoted local part may contain blanks and angle brackets.
func path(line []byte) (begin, end int) {
	i := bytes.IndexByte(line, ':') + 1
	if i == 0 {
		return len(line), len(line)
	}
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	begin = i
	angle := i < len(line) && line[i] == '<'
	for quoted := false; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && angle && c == '>':
			return begin, i + 1
		case !quoted && !angle && (c == ' ' || c == '\t'):
			return begin, i
		}
	}
	return begin, len(line)
}

// address returns the path of a MAIL or RCPT command without its angle brackets.
func address(line []byte) string {
	begin, end := path(line)
	return strings.Trim(string(line[begin:end]), "<>")
}

// forwardedAddr returns the client's IP address in an XFORWARD command, empty if it is unknown. ok
// reports whether the command has the attribute at all.
func forwardedAddr(line []byte) (addr string, ok bool) {
	for _, attr := range strings.Fields(strings.ToLower(string(line))) {
		if value, ok := strings.CutPrefix(attr, "addr="); ok {
			ip, err := netip.ParseAddr(strings.TrimPrefix(value, "ipv6:"))
			if err != nil {
				return "", true // [UNAVAILABLE]
			}
			return ip.String(), true
		}
	}
	return "", false
}

// ip returns the IP address of a peer, or "" if it has none.
func ip(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return ""
}
