package vault

import (
	"bytes"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// An attachment stored in a real node needs neither this program nor its gateway:
//
//	ipfs cat CID/data | openssl enc -d -aes-256-ctr -K KEY -iv 0
//
// is a complete decoder, given the key.
func TestKubo(t *testing.T) {
	servers.Need(t, "openssl")
	node := servers.Kubo(t)
	store, err := kubo.New(kubo.Config{API: node.API()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := newSite(t)
	s.store = store
	v := s.vault(t, nil)
	content := pattern(5<<20 + 77)
	l := detached(t, v, content)

	sealed := node.Run("cat", l.CID.String()+"/data")
	cmd := exec.Command("openssl", "enc", "-d", "-aes-256-ctr", "-K", keyHex(t, v, l), "-iv", "0")
	cmd.Stdin = bytes.NewReader([]byte(sealed))
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ipfs cat | openssl: got %d bytes, %v, want %d", len(got), err, len(content))
	}

	f, err := v.Open(t.Context(), l.CID, l.Fragment)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(3<<20+1, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content[3<<20+1:]) {
		t.Errorf("opened here: got %d bytes, %v", len(got), err)
	}

	b := v.Begin()
	detach(t, b, []byte("a mail that was refused"))
	if err := b.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign := func(pin string) bool { return !strings.Contains(pin, "detach/") }
	got, want := slices.DeleteFunc(node.Pins(), foreign), []string{l.CID.String() + " detach/v1 2026-11"}
	if !slices.Equal(got, want) {
		t.Errorf("pins: got %q, want %q", got, want)
	}
}
