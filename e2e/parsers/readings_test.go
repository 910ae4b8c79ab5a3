package parsers

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/python"
	"github.com/nkirchhoffer/detach-mta/internal/test/readings"
)

// The programs read the odd mails as package readings says. A reading that differs with a new
// version of a program must be changed, and then perhaps what Detach does with such mail.
func TestReadings(t *testing.T) {
	r := startReaders(t)
	for _, want := range readings.All(t) {
		t.Run(want.Name, func(t *testing.T) {
			got := r.read(t, []byte(want.Mail))
			finds := []string{}
			if slices.ContainsFunc(got.python.Leaves(), func(p *python.Part) bool { return p.SHA256 == sha(want.File) }) {
				finds = append(finds, "Python")
			}
			for _, name := range programs {
				files := got.views[name].Files
				if len(files) == 1 && (files[0].SHA256 == sha(want.File) || files[0].Lines == sha(asLines(want.File))) {
					finds = append(finds, name)
				}
			}
			if alike := len(finds) == 3; alike != want.Alike {
				t.Errorf("alike is %v, but the file is found by %q of three", want.Alike, finds)
			}
		})
	}
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// asLines is what read.mjs hashes as lines.
func asLines(s string) string { return strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n") }
