package servers

import (
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Zone is the content of a DNS: one record a line, as "NAME TYPE VALUE". The type is A, MX, PTR or
// TXT.
type Zone string

// StartDNS answers queries by UDP until the test ends, and returns its host:port. No other name
// exists, so a server that asks it never waits for the Internet.
func StartDNS(t T, zone Zone) (addr string) {
	t.Helper()
	records := zone.records(t)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			if answer := records.answer(buf[:n]); answer != nil {
				conn.WriteTo(answer, peer)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

// dnsRecords are the records of a zone by lower-case names, which end in a dot.
type dnsRecords map[string][]dnsRecord

type dnsRecord struct {
	kind dnsmessage.Type
	body dnsmessage.ResourceBody
}

func (z Zone) records(t T) dnsRecords {
	t.Helper()
	records := make(dnsRecords)
	for line := range strings.Lines(string(z)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		fields := strings.SplitN(line, " ", 3)
		if len(fields) < 3 {
			t.Fatalf("DNS record %q: want NAME TYPE VALUE", line)
		}
		name := strings.ToLower(fields[0]) + "."
		records[name] = append(records[name], newDNSRecord(t, fields[1], fields[2]))
	}
	return records
}

func newDNSRecord(t T, kind, value string) dnsRecord {
	t.Helper()
	switch kind {
	case "A":
		ip, err := netip.ParseAddr(value)
		Must(t, err)
		return dnsRecord{dnsmessage.TypeA, &dnsmessage.AResource{A: ip.As4()}}
	case "MX":
		return dnsRecord{dnsmessage.TypeMX, &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName(value + ".")}}
	case "PTR":
		return dnsRecord{dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(value + ".")}}
	case "TXT":
		return dnsRecord{dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: dnsStrings(value)}}
	}
	t.Fatalf("DNS record of type %q: want A, MX, PTR or TXT", kind)
	return dnsRecord{}
}

// dnsStrings cuts a text into strings of at most 255 bytes (RFC 1035 section 3.3).
func dnsStrings(text string) (parts []string) {
	for len(text) > 255 {
		parts, text = append(parts, text[:255]), text[255:]
	}
	return append(parts, text)
}

// answer returns the response to a query, or nil if it cannot be parsed.
func (records dnsRecords) answer(query []byte) []byte {
	var q dnsmessage.Message
	if q.Unpack(query) != nil || len(q.Questions) != 1 {
		return nil
	}
	question := q.Questions[0]
	found, known := records[strings.ToLower(question.Name.String())]
	a := dnsmessage.Message{Questions: q.Questions, Header: dnsmessage.Header{
		ID: q.ID, Response: true, Authoritative: true, RecursionDesired: q.RecursionDesired, RecursionAvailable: true,
	}}
	if !known {
		a.RCode = dnsmessage.RCodeNameError
	}
	for _, r := range found {
		if r.kind == question.Type {
			header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 300}
			a.Answers = append(a.Answers, dnsmessage.Resource{Header: header, Body: r.body})
		}
	}
	packed, err := a.Pack()
	if err != nil {
		return nil
	}
	return packed
}
