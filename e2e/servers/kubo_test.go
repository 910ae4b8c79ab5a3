package servers

import (
	"slices"
	"strings"
	"testing"
)

// A node keeps its address and what it stores through a crash and a restart.
func TestKuboRestarts(t *testing.T) {
	n := Kubo(t)
	added := strings.TrimSpace(n.RunInput(strings.NewReader("hello"), "add", "-Q", "--pin-name=a name"))
	if want := added + " a name"; !slices.Contains(n.Pins(), want) {
		t.Errorf("pins: got %q, want %q among them", n.Pins(), want)
	}
	api := n.API()
	n.Kill()
	if _, err := n.RPC("version"); err == nil {
		t.Error("a killed node answers")
	}
	n.Start()
	if n.API() != api {
		t.Errorf("API moved from %s to %s", api, n.API())
	}
	n.Stop()
	n.Start()
	if got := n.Run("cat", added); got != "hello" {
		t.Errorf("cat: got %q, want hello", got)
	}
	if _, err := n.RPC("version"); err != nil {
		t.Error(err)
	}
}
