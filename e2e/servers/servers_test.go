package servers

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// A gateway and a proxy that are given the same port do not start. Random ports were the same once
// in some hundred runs.
func TestFreeAddrIsNeverGivenTwice(t *testing.T) {
	given := make(map[string]bool)
	for range 500 {
		addr := FreeAddr(t)
		if given[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		given[addr] = true
	}
}

const besideEnv = "DETACH_TEST_BESIDE"

// Packages are tested side by side, in processes of their own. Here a second one begins at the same
// port.
func TestFreeAddrBesideAnotherProcess(t *testing.T) {
	const ports = 100
	if begin, err := strconv.Atoi(os.Getenv(besideEnv)); err == nil {
		portsGiven.Store(uint32(begin))
		for range ports {
			fmt.Println("another has", FreeAddr(t))
		}
		return
	}
	begin := portsGiven.Load()
	given := make(map[string]bool)
	for range ports {
		given[FreeAddr(t)] = true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", besideEnv, begin))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
	others := 0
	for line := range strings.Lines(string(out)) {
		if addr, ok := strings.CutPrefix(strings.TrimSpace(line), "another has "); ok {
			others++
			if given[addr] {
				t.Errorf("%s was given in two processes", addr)
			}
		}
	}
	if others != ports {
		t.Errorf("the other process has %d ports, want %d", others, ports)
	}
}
