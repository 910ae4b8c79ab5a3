package e2e

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// message wraps bytes for the sender.
func message(mail []byte) servers.Message {
	return servers.Message{From: sender, To: recipient, Args: "BODY=8BITMIME", Data: bytes.NewReader(mail)}
}

// leaf is one part of a mail as Python sees it.
type leaf struct {
	Type, Name, SHA256, Text string
	Size                     int64
}

// parsed is a mail as Python sees it.
type parsed struct {
	Leaves           []leaf
	Subject, Restore string
	Error            string
}

// decoder is a running leaves.py.
type decoder struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

func startDecoder(t *testing.T) *decoder {
	t.Helper()
	servers.Need(t, "python3")
	cmd := exec.Command("python3", "leaves.py")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("leaves.py: %v", err)
		}
	})
	return &decoder{in: in, out: bufio.NewReader(out)}
}

// parse takes a mail apart, and notes its subject and file names as secrets.
func (d *decoder) parse(t *testing.T, mail []byte) parsed {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.in, "{\"mail\": %q}\n", base64.StdEncoding.EncodeToString(mail))
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		t.Errorf("leaves.py ended: %v", err)
		return parsed{Error: "no decoder"}
	}
	var p parsed
	if err := json.Unmarshal(line, &p); err != nil {
		t.Errorf("leaves.py wrote %q: %v", line, err)
	}
	keepSecret(subjectSecret, p.Subject)
	for _, l := range p.Leaves {
		keepSecret(nameSecret, l.Name)
	}
	return p
}

var linkPattern = regexp.MustCompile(`https?://[^\s"'<>]+/(baf[a-z2-7]+)(/all)?#(z[1-9A-HJ-NP-Za-km-z]+)`)

// link is what a recipient finds in a mail: to a file, or to all of the mail's.
type link struct {
	url, page, cid, fragment string
	all                      bool
}

func (l link) String() string { return l.url }

// links finds those to a file.
func (p parsed) links() []link {
	return slices.DeleteFunc(p.allLinks(), func(l link) bool { return l.all })
}

// checkAll holds the mail to having one link to all of its files if they are several, and none else; and that one to
// leading to a ZIP of them, which are told by their hashes.
func (p parsed) checkAll(t *testing.T, want []string) link {
	t.Helper()
	all := slices.DeleteFunc(p.allLinks(), func(l link) bool { return !l.all })
	if len(want) < 2 && len(all) == 0 {
		return link{}
	}
	if len(all) != 1 || len(want) < 2 {
		t.Errorf("%d links to all of %d files", len(all), len(want))
		return link{}
	}
	if got := zipHashes(t, all[0]); !slices.Equal(got, want) {
		t.Errorf("the ZIP of all has files with SHA-256 %q, want %q", got, want)
	}
	return all[0]
}

// zipHashes downloads a ZIP and returns the SHA-256 of what is in it, in hex.
func zipHashes(t *testing.T, l link) (hashes []string) {
	t.Helper()
	var content bytes.Buffer
	if err := download(l, &content); err != nil {
		t.Errorf("download all: %v", err)
		return nil
	}
	z, err := zip.NewReader(bytes.NewReader(content.Bytes()), int64(content.Len()))
	if err != nil {
		t.Errorf("all files: %v", err)
		return nil
	}
	for _, f := range z.File {
		r, err := f.Open()
		must(t, err)
		h := sha256.New()
		_, err = io.Copy(h, r)
		must(t, err)
		hashes = append(hashes, hex.EncodeToString(h.Sum(nil)))
	}
	return hashes
}

// allLinks finds those in the text parts, each once, and notes their secrets.
func (p parsed) allLinks() []link {
	var found []link
	seen := make(map[string]bool)
	for _, leaf := range p.Leaves {
		for _, m := range linkPattern.FindAllStringSubmatch(leaf.Text, -1) {
			if !seen[m[0]] {
				seen[m[0]] = true
				found = append(found, newLink(m))
			}
		}
	}
	return found
}

func newLink(m []string) link {
	keepSecret(fragmentSecret, m[3])
	page, _, _ := strings.Cut(m[0], "#")
	return link{url: m[0], page: page, cid: m[1], fragment: m[3], all: m[2] != ""}
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// download does what the page's button does: POST the fragment, follow the 303, read the file.
func download(l link, w io.Writer) error { return downloadBy(noRedirects, l, w) }

func downloadBy(client *http.Client, l link, w io.Writer) error {
	resp, err := client.PostForm(l.page, url.Values{"key": {l.fragment}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		return fmt.Errorf("POST %s: %s, want 303", l.cid, resp.Status)
	}
	where, err := resp.Location()
	if err != nil {
		return err
	}
	if _, rest, ok := strings.Cut(where.Path, "/t/"); ok {
		ticket, _, _ := strings.Cut(rest, "/")
		keepSecret(ticketSecret, ticket)
	}
	resp, err = client.Get(where.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", l.cid, resp.Status)
	}
	n, err := io.Copy(w, resp.Body)
	if err == nil && n != resp.ContentLength {
		err = fmt.Errorf("%d bytes, Content-Length %d", n, resp.ContentLength)
	}
	return err
}

// fileHash downloads and returns the file's SHA-256 in hex.
func fileHash(t *testing.T, l link) string {
	t.Helper()
	h := sha256.New()
	if err := download(l, h); err != nil {
		t.Errorf("download: %v", err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// key joins the file key from the link's fragment and the gateway's share, as `detach get` does, and notes both.
func (l link) key(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(l.page + "/share")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	share, err := crypto.ParseShare(strings.TrimSpace(string(body)))
	must(t, err)
	fragment, err := crypto.ParseFragment(l.fragment)
	must(t, err)
	joined := make([]byte, 32)
	for i := range joined {
		joined[i] = share.Bytes()[i] ^ fragment.Bytes()[i]
	}
	key := hex.EncodeToString(joined)
	keepSecret(shareSecret, share.Encode())
	keepSecret(shareSecret, hex.EncodeToString(share.Bytes()))
	keepSecret(fragmentSecret, hex.EncodeToString(fragment.Bytes()))
	keepSecret(keySecret, key)
	return key
}

// visit is one link opened in Chromium, seen what came of it; see browser/download.mjs.
type visit struct {
	Link       string `json:"link"`
	Name       string `json:"name"`
	Device     string `json:"device"`
	JavaScript bool   `json:"javascript"`
	Here       bool   `json:"here"` // decrypted in the browser
	Screenshot string `json:"screenshot"`

	fragment, sha256 string // without a sha256 the download must fail
}

type seen struct {
	Shown                                     bool
	Text, After, File, SHA256, Failure, Error string
	Size                                      int64
	Requests, Complaints                      []string
}

// firefox is the argument by which a script of browser/ is for Firefox.
const firefox = "firefox"

// node runs a script of browser/, which takes and gives JSON.
func node(t *testing.T, script string, in, out any, args ...string) {
	t.Helper()
	servers.Need(t, "node", map[bool]string{false: "chromium", true: "firefox-esr"}[slices.Contains(args, firefox)])
	if !isDir("browser/node_modules/playwright-core") {
		servers.Missing(t, "playwright-core: run npm ci in e2e/browser")
	}
	told, err := json.Marshal(in)
	must(t, err)
	cmd := exec.Command("node", append([]string{script}, args...)...)
	cmd.Dir, cmd.Stdin = "browser", bytes.NewReader(told)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	seen, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.Bytes())
	}
	must(t, json.Unmarshal(seen, out))
}

// browse opens the links in a real browser and checks that each shows the file's name and gives the file.
func browse(t *testing.T, visits []visit, args ...string) []seen {
	t.Helper()
	for i := range visits {
		if visits[i].Screenshot != "" {
			path, err := filepath.Abs(filepath.Join(artefacts, visits[i].Screenshot))
			must(t, err)
			visits[i].Screenshot = path
		}
	}
	var saw []seen
	node(t, "download.mjs", visits, &saw, args...)
	if len(saw) != len(visits) {
		t.Fatalf("%d visits, want %d", len(saw), len(visits))
	}
	for i, v := range visits {
		t.Run(fmt.Sprintf("%d/%s/js=%v/here=%v/%s", i, v.Device, v.JavaScript, v.Here, v.Name), func(t *testing.T) { v.judge(t, saw[i]) })
	}
	return saw
}

func (v visit) judge(t *testing.T, s seen) {
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
	must(t, err)
	for _, r := range s.Requests {
		_, address, _ := strings.Cut(r, " ")
		u, err := url.Parse(address)
		must(t, err)
		if u.Scheme != "data" && u.Host != page.Host {
			t.Errorf("the page made a request to another host: %s", u.Host)
		}
		u.Fragment = "" // the browser's own, never sent
		if strings.Contains(u.String(), v.fragment) {
			t.Error("the fragment went out in a request's URL")
		}
	}
}
