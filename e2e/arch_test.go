package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/nkirchhoffer/detach-mta/"

// floors says what each package may import of ours, directly. A package that is not here has no place in the house yet.
var floors = map[string][]string{
	"crypto":            {},
	"ipfs":              {},
	"internal/trace":    {},
	"internal/ahead":    {},
	"internal/lines":    {},
	"internal/link":     {"crypto", "ipfs"},
	"internal/vault":    {"internal/link", "internal/ahead", "crypto", "ipfs"},
	"internal/skeleton": {"internal/link"},
	"internal/manifest": {"internal/link"},
	"internal/archive":  {},
	"internal/config":   {"internal/link", "crypto", "ipfs"},
	"proxy/rewrite":     {"internal/lines", "internal/manifest", "internal/skeleton", "internal/link"},
	"proxy":             {"proxy/rewrite", "internal/lines", "internal/link", "internal/trace"},
	"gateway":           {"internal/vault", "internal/ahead", "internal/archive", "internal/manifest", "internal/skeleton", "internal/link", "internal/trace", "crypto", "ipfs"},
	"cmd/detach":        {"proxy", "proxy/rewrite", "gateway", "internal/config", "internal/vault", "internal/archive", "internal/manifest", "internal/skeleton", "internal/link", "crypto", "ipfs"},
}

// Imports go down only: cmd to proxy and gateway, these to vault and link, these to crypto and ipfs. Packages below a folder
// of the house (a suite for tests, an embedded page) stand on its floor.
func TestImportsGoDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	must(t, err)
	seen := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		must(t, dec.Decode(&p))
		name, _ := strings.CutPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "e2e") {
			continue
		}
		floor := floorOf(name)
		if floor == "" {
			t.Errorf("%s has no floor in this test", name)
			continue
		}
		seen[floor] = true
		for _, imported := range p.Imports {
			below, ours := strings.CutPrefix(imported, module)
			if ours && !allowed(floor, below) {
				t.Errorf("%s imports %s", name, below)
			}
		}
	}
	for floor := range floors {
		if !seen[floor] {
			t.Errorf("the package %s is gone", floor)
		}
	}
}

// floorOf is the longest entry that is the package or a folder above it.
func floorOf(name string) string {
	best := ""
	for floor := range floors {
		if (name == floor || strings.HasPrefix(name, floor+"/")) && len(floor) > len(best) {
			best = floor
		}
	}
	return best
}

func allowed(floor, imported string) bool {
	if floorOf(imported) == floor {
		return true
	}
	for _, below := range floors[floor] {
		if imported == below {
			return true
		}
	}
	return false
}
