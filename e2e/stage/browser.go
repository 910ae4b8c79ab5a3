package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Visit is a link to be opened in a browser; see browser/download.mjs.
type Visit struct {
	Link       string `json:"link"`
	Name       string `json:"name"`
	Device     string `json:"device"`
	JavaScript bool   `json:"javascript"`
	Here       bool   `json:"here"` // decrypted in the browser
	Screenshot string `json:"screenshot"`

	fragment, sha256 string
}

// Visit returns a visit on a computer, with JavaScript. The browser must save a file with this name
// (empty: any) and this hash (in hex; empty: the download must fail), and send the link's fragment
// in no request.
func (l Link) Visit(name, sha256 string) Visit {
	return Visit{Link: l.URL, Name: name, Device: "desktop", JavaScript: true, fragment: l.Fragment, sha256: sha256}
}

// Seen is the outcome of a visit.
type Seen struct {
	Shown                                     bool
	Text, After, File, SHA256, Failure, Error string
	Size                                      int64
	Requests, Complaints                      []string
}

// Firefox is the argument that makes a script of browser/ start Firefox.
const Firefox = "firefox"

// Node runs a script of browser/ with JSON as its input and output.
func Node(t servers.T, script string, in, out any, args ...string) {
	t.Helper()
	servers.Need(t, "node", map[bool]string{false: "chromium", true: "firefox-esr"}[slices.Contains(args, Firefox)])
	scripts := Path("e2e", "browser")
	if _, err := os.Stat(filepath.Join(scripts, "node_modules/playwright-core")); err != nil {
		servers.Missing(t, "playwright-core: run npm ci in e2e/browser")
	}
	told, err := json.Marshal(in)
	Must(t, err)
	cmd := exec.Command("node", append([]string{script}, args...)...)
	cmd.Dir, cmd.Stdin = scripts, bytes.NewReader(told)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	seen, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.Bytes())
	}
	Must(t, json.Unmarshal(seen, out))
}

// Browse opens the links in a real browser and checks that each shows the file's name and gives the
// file.
func Browse(t *testing.T, visits []Visit, args ...string) []Seen {
	t.Helper()
	for i := range visits {
		if visits[i].Screenshot != "" {
			visits[i].Screenshot = Artifact(t, visits[i].Screenshot)
		}
	}
	var saw []Seen
	Node(t, "download.mjs", visits, &saw, args...)
	if len(saw) != len(visits) {
		t.Fatalf("%d visits, want %d", len(saw), len(visits))
	}
	for i, v := range visits {
		t.Run(fmt.Sprintf("%d/%s/js=%v/here=%v/%s", i, v.Device, v.JavaScript, v.Here, v.Name), func(t *testing.T) { v.judge(t, saw[i]) })
	}
	return saw
}

func (v Visit) judge(t servers.T, s Seen) {
	if s.Error != "" {
		t.Fatalf("in the browser: %s\nthe page said: %s\ncomplaints: %q", s.Error, s.Text, s.Complaints)
	}
	if v.sha256 == "" && s.Failure == "" {
		t.Errorf("%d bytes were saved, and the browser says nothing of a failure", s.Size)
	} else if v.sha256 != "" && s.Failure != "" {
		t.Errorf("the download failed: %s", s.Failure)
	}
	if s.SHA256 != v.sha256 {
		t.Errorf("saved file has SHA-256 %s, want %s", s.SHA256, v.sha256)
	}
	if v.Name != "" && s.File != v.Name {
		t.Errorf("saved as %q, want %q", s.File, v.Name)
	}
	if s.Shown != v.JavaScript {
		t.Errorf("name shown: %v, want %v", s.Shown, v.JavaScript)
	}
	if len(s.Complaints) > 0 {
		t.Errorf("the browser complains: %q", s.Complaints)
	}
	page, err := url.Parse(v.Link)
	Must(t, err)
	for _, r := range s.Requests {
		_, address, _ := strings.Cut(r, " ")
		u, err := url.Parse(address)
		Must(t, err)
		if u.Scheme != "data" && u.Host != page.Host {
			t.Errorf("the page made a request to another host: %s", u.Host)
		}
		u.Fragment = "" // the browser's own, never sent
		if strings.Contains(u.String(), v.fragment) {
			t.Error("the fragment went out in a request's URL")
		}
	}
}
