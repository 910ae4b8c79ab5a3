package proxy

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// offered are the EHLO keywords that still hold with us in between: they are about the envelope, or
// about bytes that we pass on. CHUNKING and BINARYMIME would bring data without a final dot;
// STARTTLS and AUTH belong to the server before us. Keywords that we do not know are not offered.
var offered = []string{
	"SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "XFORWARD", "VRFY", "ETRN", "PIPELINING",
}

// filterEHLO keeps the greeting and those keywords of an EHLO reply that we can honor, and puts in
// our own SIZE. A limit of 0 takes the next hop's. It returns the limit that is now in force.
func filterEHLO(a answer, limit int64) (answer, int64) {
	lines := a.lines()
	kept := lines[:1]
	for _, line := range lines[1:] {
		fields := bytes.Fields(line[min(4, len(line)):])
		if len(fields) == 0 || !slices.Contains(offered, strings.ToUpper(string(fields[0]))) {
			continue
		}
		if bytes.EqualFold(fields[0], []byte("SIZE")) {
			if limit == 0 && len(fields) > 1 {
				limit = nextHopLimit(fields[1])
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

// nextHopLimit reads the value of a SIZE keyword. 0 means no limit, as does a malformed value.
func nextHopLimit(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// takeSize removes the SIZE parameter from a MAIL command (RFC 1870), because the next hop will
// never see a mail of that size. All other bytes stay. It fails if the size is beyond the limit.
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
	// RFC 1870 section 4: up to 20 digits, which is all that a uint64 needs.
	size, err := strconv.ParseUint(value, 10, 64)
	if err != nil && !isRange(err) {
		return errBadSize
	}
	if limit > 0 && size > uint64(limit) {
		return errTooBig
	}
	return nil
}

func isRange(err error) bool {
	e, ok := err.(*strconv.NumError)
	return ok && e.Err == strconv.ErrRange
}

// path finds the path of a MAIL or RCPT command, which a client may write without angle brackets. A
// quoted local part may hold blanks and angle brackets of its own.
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

// forwardedAddr returns the client's IP address in an XFORWARD command, or nothing if the sender of
// the command does not know it. ok reports whether the command has an address at all.
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

// ip returns the IP address of a peer, or nothing if it has none.
func ip(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return ""
}
