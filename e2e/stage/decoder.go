package stage

import (
	"bufio"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Leaf is one part of a mail as Python sees it.
type Leaf struct {
	Type, Name, SHA256, Text string
	Size                     int64
}

// Parsed is a mail as Python sees it.
type Parsed struct {
	Leaves           []Leaf
	Subject, Restore string
	Error            string
}

//go:embed leaves.py
var leavesPy string

// Decoder is a running leaves.py.
type Decoder struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// StartDecoder starts a Decoder that ends with the test.
func StartDecoder(t servers.T) *Decoder {
	t.Helper()
	servers.Need(t, "python3")
	cmd := exec.Command("python3", "-c", leavesPy)
	in, err := cmd.StdinPipe()
	Must(t, err)
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("leaves.py: %v", err)
		}
	})
	return &Decoder{in: in, out: bufio.NewReader(out)}
}

// Parse takes a mail apart, and notes its subject and file names as secrets. It is safe for
// concurrent use.
func (d *Decoder) Parse(t servers.T, mail []byte) Parsed {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.in, "{\"mail\": %q}\n", base64.StdEncoding.EncodeToString(mail))
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		t.Errorf("leaves.py ended: %v", err)
		return Parsed{Error: "no decoder"}
	}
	var p Parsed
	if err := json.Unmarshal(line, &p); err != nil {
		t.Errorf("leaves.py wrote %q: %v", line, err)
	}
	KeepSecret(SubjectSecret, p.Subject)
	for _, l := range p.Leaves {
		KeepSecret(NameSecret, l.Name)
	}
	return p
}
