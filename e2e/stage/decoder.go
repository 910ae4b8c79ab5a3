package stage

import (
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/test/python"
)

// Leaf is one part of a mail as Python sees it.
type Leaf = python.Part

// Parsed is a mail as Python sees it.
type Parsed struct {
	Leaves           []*Leaf
	Subject, Restore string
	Error            string
}

// Decoder takes mails apart with Python. It is safe for concurrent use.
type Decoder struct{ python *python.Decoder }

// StartDecoder starts a Decoder that ends with the test.
func StartDecoder(t servers.T) *Decoder {
	t.Helper()
	return &Decoder{python.Start(t)}
}

// Parse takes a mail apart, and notes its subject and file names as secrets.
func (d *Decoder) Parse(t servers.T, mail []byte) Parsed {
	t.Helper()
	m := d.python.Parse(t, mail, python.Want{})
	p := Parsed{m.Leaves(), m.Subject, m.Restore, m.Error}
	KeepSecret(SubjectSecret, p.Subject)
	for _, l := range p.Leaves {
		KeepSecret(NameSecret, l.Name)
	}
	return p
}
