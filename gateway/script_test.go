package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// runScript runs a program in Node.js, whose WebCrypto and fetch are those of browsers, with the
// script of the pages before it. The program is an expression: a function of told.
func runScript(t *testing.T, program string, told, seen any) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil && os.Getenv("CI") == "" {
		t.Skip("node is not installed")
	}
	input, err := json.Marshal(map[string]any{"script": scripts("link.js", "all.js"), "program": program, "told": told})
	check(t, err)
	cmd := exec.CommandContext(t.Context(), "node", "-e", `const { script, program, told } = JSON.parse(require('node:fs').readFileSync(0));
		const run = new Function(script + '; return ' + program)();
		run(told).then(seen => console.log(JSON.stringify(seen)));`)
	cmd.Stdin = strings.NewReader(string(input))
	out, err := cmd.CombinedOutput()
	if err == nil {
		err = json.Unmarshal(out, seen)
	}
	if err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
}

// opening is an attempt of the script to open an object.
type opening struct {
	At, Key, Core, Meta, Origin string

	Name   string // of the file, if it opens
	Status int    // of the error
	Failed string
}

func openAll(t *testing.T, attempts []opening) (seen []opening) {
	t.Helper()
	runScript(t, `told => Promise.all(told.map(async o => {
		const { open, decode, cidBytes, base64url } = detach;
		try {
			const { meta, key } = await open(o.At, decode(o.Key), { core: cidBytes(o.Core), meta: o.Meta, origin: base64url(o.Origin) });
			return { ...o, Name: meta.name, Failed: key.extractable ? 'the key can be exported' : '' };
		} catch (error) {
			return { ...o, Status: error.status, Failed: String(error) };
		}
	}))`, attempts, &seen)
	return seen
}

// attempt returns what the page of a link tells its script.
func (f *fixture) attempt(l link.Link) opening {
	f.t.Helper()
	html := f.body("/" + l.CID.String())
	of := func(name string) string {
		found := regexp.MustCompile(` data-` + name + `="([^"]+)"`).FindStringSubmatch(html)
		if found == nil {
			f.t.Fatalf("the page has no data-%s", name)
		}
		return found[1]
	}
	return opening{At: f.srv.URL + of("base") + of("cid"), Key: l.Fragment.Encode(), Core: of("core"), Meta: of("meta"), Origin: of("origin")}
}

// The page's script opens a file with its link. A wrong link does not reach the server, and the
// share of another file opens nothing.
func TestScriptOpensFiles(t *testing.T) {
	f := newFixture(t, 0)
	l, other := f.put("report.pdf", noise(10)), f.put("other.pdf", noise(10))
	right, wrong, taken, mixed := f.attempt(l), f.attempt(l), f.attempt(l), f.attempt(l)
	wrong.Key = other.Fragment.Encode()

	var asked []string // a gateway that gives the wrong share
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		_, _ = w.Write([]byte(`{"share":"` + other.Fragment.Encode() + `","expires":null}`))
	}))
	defer front.Close()
	mixed.At = strings.Replace(mixed.At, f.srv.URL, front.URL, 1)
	wrong.At = strings.Replace(wrong.At, f.srv.URL, front.URL, 1)
	for i, o := range openAll(t, []opening{right, wrong, mixed}) {
		switch {
		case i == 0 && (o.Name != "report.pdf" || o.Failed != ""),
			i == 1 && o.Status != http.StatusForbidden,
			i == 2 && (o.Name != "" || o.Status == http.StatusForbidden):
			t.Errorf("attempt %d: %q, %d, %s", i, o.Name, o.Status, o.Failed)
		}
	}
	if len(asked) != 1 {
		t.Errorf("asked for %v, want one share: nothing is asked for with a wrong link", asked)
	}
	f.deny(l)
	if o := openAll(t, []opening{taken})[0]; o.Status != http.StatusGone {
		t.Errorf("revoked: got %d, %s", o.Status, o.Failed)
	}
}
