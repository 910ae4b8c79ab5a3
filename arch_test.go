package detach

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const module = "github.com/nkirchhoffer/detach-mta/"

// floors says which of our packages each package may import directly. A package that is missing
// here fails the test.
var floors = map[string][]string{
	"crypto":                               {},
	"crypto/keyring":                       {"internal/durable", "crypto"},
	"ipfs":                                 {"internal/memory", "internal/readahead"},
	"ipfs/embedded":                        {"internal/durable", "internal/memory", "ipfs"},
	"ipfs/kubo":                            {"internal/memory", "ipfs"},
	"ipfs/storetest":                       {"internal/memory", "internal/test/must", "internal/test/race", "ipfs"},
	"internal/clock":                       {"internal/durable"},
	"internal/charsets":                    {},
	"internal/durable":                     {},
	"internal/filename":                    {},
	"internal/freespace":                   {"ipfs"},
	"internal/test":                        {}, // helpers of tests: only tests import them
	"internal/test/installation":           {"internal/clock", "internal/denied", "internal/ledger", "internal/test/must", "internal/upkeep", "internal/vault", "crypto/keyring", "ipfs"},
	"internal/lines":                       {},
	"internal/memory":                      {},
	"internal/migrate":                     {"ipfs"},
	"internal/progress":                    {"internal/texts"},
	"internal/object":                      {"internal/transfer", "crypto", "ipfs"},
	"internal/readahead":                   {"internal/memory"},
	"internal/recent":                      {},
	"internal/spool":                       {"internal/memory"},
	"internal/stack":                       {},
	"internal/zipstream":                   {},
	"internal/texts":                       {},
	"internal/link":                        {"crypto", "ipfs"},
	"internal/admin":                       {"internal/transaction"},
	"internal/check":                       {"internal/config", "internal/durable", "internal/freespace", "internal/texts", "crypto", "crypto/keyring", "ipfs"},
	"internal/config":                      {"internal/link", "internal/texts", "crypto", "ipfs"},
	"internal/denied":                      {"internal/durable", "internal/link", "crypto"},
	"internal/export":                      {"internal/durable", "crypto", "crypto/keyring"},
	"internal/filelist":                    {"internal/filename", "internal/link", "internal/zipstream"},
	"internal/ledger":                      {"internal/durable", "internal/link", "crypto"},
	"internal/transfer":                    {"internal/lines", "internal/spool"},
	"internal/upkeep":                      {"internal/denied", "internal/ledger", "internal/object", "internal/vault", "crypto", "crypto/keyring", "ipfs"},
	"internal/skeleton":                    {"internal/link", "internal/transfer"},
	"internal/vault":                       {"internal/denied", "internal/durable", "internal/filelist", "internal/filename", "internal/ledger", "internal/link", "internal/object", "internal/readahead", "internal/recent", "internal/skeleton", "internal/spool", "crypto", "crypto/keyring", "ipfs"},
	"internal/rewrite":                     {"internal/charsets", "internal/filelist", "internal/filename", "internal/lines", "internal/link", "internal/memory", "internal/readahead", "internal/rewrite/notice", "internal/rewrite/reference", "internal/skeleton", "internal/spool", "internal/transfer"},
	"internal/rewrite/notice":              {"internal/charsets", "internal/lines", "internal/texts", "internal/transfer"},
	"internal/rewrite/reference":           {"internal/charsets", "internal/lines", "internal/memory", "internal/readahead", "internal/transfer"},
	"internal/transaction":                 {"internal/link", "internal/rewrite", "internal/spool"},
	"internal/transaction/transactiontest": {"internal/link", "internal/transaction"},
	"proxy":                                {"internal/freespace", "internal/lines", "internal/stack", "internal/transaction"},
	"gateway/viewer":                       {"internal/texts"}, // no key and no store: the gateway hands it decrypted bytes
	"gateway":                              {"gateway/viewer", "internal/filelist", "internal/filename", "internal/link", "internal/memory", "internal/readahead", "internal/recent", "internal/skeleton", "internal/stack", "internal/texts", "internal/vault", "internal/zipstream", "crypto", "ipfs"},
	"internal/fetch":                       {"internal/durable", "internal/filelist", "internal/filename", "internal/link", "internal/object", "internal/progress", "internal/skeleton", "internal/spool", "internal/texts", "crypto", "crypto/keyring", "ipfs"},
	"internal/fetch/fetchtest":             {"gateway", "internal/link", "internal/test/installation", "internal/test/must", "internal/upkeep", "internal/vault", "crypto", "crypto/keyring", "ipfs", "ipfs/embedded"},
	"cmd/detach":                           {"gateway", "internal/admin", "internal/check", "internal/clock", "internal/config", "internal/denied", "internal/durable", "internal/export", "internal/fetch", "internal/fetch/output", "internal/filelist", "internal/filename", "internal/freespace", "internal/ledger", "internal/link", "internal/memory", "internal/migrate", "internal/progress", "internal/rewrite", "internal/skeleton", "internal/spool", "internal/texts", "internal/transaction", "internal/upkeep", "internal/vault", "proxy", "crypto", "crypto/keyring", "ipfs", "ipfs/embedded", "ipfs/kubo"},
}

// Imports only go down: from cmd to proxy and gateway, then to transaction and vault, then to
// crypto and ipfs. A package in a folder below a listed one (a suite of tests, an embedded page)
// may import the same packages.
func TestImportsGoDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	must.Succeed(t, err)
	seen := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		must.Succeed(t, dec.Decode(&p))
		name, _ := strings.CutPrefix(p.ImportPath, module)
		if name+"/" == module || strings.HasPrefix(name, "e2e") {
			continue
		}
		floor := floorOf(name)
		if floor == "" {
			t.Errorf("%s is not in the list of this test", name)
			continue
		}
		seen[floor] = true
		for _, imported := range p.Imports {
			below, ours := strings.CutPrefix(imported, module)
			if ours && !allowed(floor, below) || heavy(name, imported) {
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

// heavy reports whether a package imports a large library that it must not. Kubo's client library
// is half of the binary's packages, so only ipfs/kubo may. Boxo is an oracle for tests, whose
// imports do not count here.
func heavy(name, imported string) bool {
	return strings.HasPrefix(imported, "github.com/ipfs/kubo/") && name != "ipfs/kubo" || strings.HasPrefix(imported, "github.com/ipfs/boxo/")
}

// floorOf returns the longest entry that is the package or a folder above it.
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
	return floorOf(imported) == floor || slices.Contains(floors[floor], imported)
}
