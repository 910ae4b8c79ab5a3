// Package python takes mails apart with Python's email package, which shares no code with Detach.
// Only tests import it.
package python

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// A Mail is a mail as Python sees it.
type Mail struct {
	Root             *Part
	Subject, Restore string
	Error            string // of Python, if it cannot read the mail; then Root is nil

	// Defects has the names of what Python's newer policy finds wrong in any part, if Defects was
	// asked for. A defect of a field begins with the field's name.
	Defects []string
}

// A Part is one entity of a mail.
type Part struct {
	Type, Disposition, Name, CID, Location, Encoding string

	Named   bool     // also if no name could be read
	Fields  []string // the names of the Content- fields, in lower case
	Defects []string // the names of what Python finds wrong
	Parts   []*Part  // of a multipart, or of a message/rfc822
	Above   []string // the types of the entities that the part is in, each followed by its defects

	// The following are of a part without parts, decoded.
	SHA256   string
	Size     int64
	Text     string   // of a text/*
	Readable bool     // whether the bytes of a text/* are valid in the charset that it declares
	Raw      []byte   // the body as received, if Raw was asked for
	ShownBy  []string // the SHA-256 of each text/html that refers to the part, if Seen was asked for
}

// Leaves returns the parts without parts, in their order.
func (m *Mail) Leaves() []*Part {
	if m.Root == nil {
		return nil
	}
	return m.Root.leaves(nil)
}

// Above returns the entity that a part is in, or nil.
func (m *Mail) Above(part *Part) *Part {
	if m.Root == nil {
		return nil
	}
	return m.Root.above(part)
}

func (p *Part) above(part *Part) *Part {
	for _, child := range p.Parts {
		if child == part {
			return p
		}
		if found := child.above(part); found != nil {
			return found
		}
	}
	return nil
}

func (p *Part) leaves(above []string) []*Part {
	p.Above = above
	if p.Parts == nil {
		return []*Part{p}
	}
	above = append(above[:len(above):len(above)], strings.Join(append([]string{p.Type}, p.Defects...), " "))
	var leaves []*Part
	for _, child := range p.Parts {
		leaves = append(leaves, child.leaves(above)...)
	}
	return leaves
}

// T is what a Decoder needs of its test. Every testing.TB is a T.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

//go:embed mail.py
var script string

// A Decoder is a running mail.py. It is safe for concurrent use.
type Decoder struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// Start starts a Decoder that ends with the test. Without Python it skips the test, and fails it in
// CI.
func Start(t T) *Decoder {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("missing: %v", err)
	}
	if err != nil {
		t.Skipf("missing: %v", err)
	}
	cmd := exec.Command(path, "-W", "ignore", "-c", script)
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if inErr != nil || outErr != nil {
		t.Fatalf("pipes: %v, %v", inErr, outErr)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("python: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("mail.py: %v", err)
		}
	})
	return &Decoder{in: in, out: bufio.NewReader(out)}
}

// Want says what a Mail has beyond its tree. Finding the defects takes long for a mail of many
// levels.
type Want struct{ Raw, Seen, Defects bool }

// Parse takes a mail apart.
func (d *Decoder) Parse(t T, mail []byte, w Want) *Mail {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.in, "{\"mail\": %q, \"raw\": %t, \"seen\": %t, \"defects\": %t}\n", base64.StdEncoding.EncodeToString(mail), w.Raw, w.Seen, w.Defects)
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		t.Errorf("mail.py ended: %v", err)
		return &Mail{Error: "no decoder"}
	}
	var m Mail
	if err := json.Unmarshal(line, &m); err != nil {
		t.Errorf("mail.py wrote %q: %v", line, err)
	}
	return &m
}
