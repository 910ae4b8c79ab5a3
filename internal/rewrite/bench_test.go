package rewrite

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

func BenchmarkMessage(b *testing.B) {
	for name, mail := range map[string][]byte{
		"32 MB detached":  mixed(32 << 20),
		"100 KB detached": mixed(100 << 10), // like most mails with an attachment
		"800 KB kept":     bytes.Replace(mixed(600<<10), []byte("application/pdf; name=r.pdf"), []byte("text/calendar; name=r.ics"), 1),
	} {
		b.Run(name, func(b *testing.B) {
			d := newSink(b)
			b.SetBytes(int64(len(mail)))
			b.ReportAllocs()
			for b.Loop() {
				discard(b, mail, d)
			}
		})
	}
}

// discard rewrites a mail and discards the result.
func discard(b *testing.B, mail []byte, d Detacher) {
	m, err := Read(bytes.NewReader(mail), Policy{MinSize: 64 << 10})
	must.Succeed(b, err)
	if !m.Passes() {
		must.Succeed(b, m.Detach(b.Context(), d))
	}
	_, err = m.WriteTo(struct{ io.Writer }{io.Discard})
	must.Succeed(b, errors.Join(err, m.Close()))
}

// BenchmarkScan measures only the search for delimiters.
func BenchmarkScan(b *testing.B) {
	mail := mixed(32 << 20)
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		s := newScanner(bytes.NewReader(mail))
		s.push("b1")
		for {
			if _, _, err := s.next(); err != nil {
				break
			}
		}
	}
}
