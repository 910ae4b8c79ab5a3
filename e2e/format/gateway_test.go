package format

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/fetch/fetchtest"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// decode runs docs/decode.py.
func decode(args ...string) (stdout []byte, stderr string, err error) {
	var refusal bytes.Buffer
	cmd := exec.Command("python3", append([]string{"../../docs/decode.py"}, args...)...)
	cmd.Stderr = &refusal
	stdout, err = cmd.Output()
	return stdout, strings.TrimSpace(refusal.String()), err
}

// download saves what a gateway answers.
func download(t *testing.T, url, authorization string) (path string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must.Succeed(t, err)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(r)
	must.Succeed(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must.Succeed(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	path = filepath.Join(t.TempDir(), "answer")
	must.Succeed(t, os.WriteFile(path, body, 0o600))
	return path
}

// share asks the gateway for the share, as docs/format.md says.
func share(t *testing.T, l link.Link, car string) (share, expires string) {
	t.Helper()
	proof, stderr, err := decode(l.URL(), car, "--proof")
	if err != nil {
		t.Fatalf("--proof: %v, %s", err, stderr)
	}
	answer, err := os.ReadFile(download(t, l.Base+"/"+l.CID.String()+"/share", "Detach "+strings.TrimSpace(string(proof))))
	must.Succeed(t, err)
	var got struct {
		Share   string
		Expires *string
	}
	must.Succeed(t, json.Unmarshal(answer, &got))
	if got.Expires == nil {
		return got.Share, ""
	}
	return got.Share, *got.Expires
}

// A person without Detach gets the object and the share from a gateway, and opens the file.
func TestDecodePyOpensFromAGateway(t *testing.T) {
	needPython(t)
	site := fetchtest.New(t)
	content := fetchtest.Random(3<<20 + 5)
	l := site.Store(t, content)
	car := download(t, l.Base+"/ipfs/"+l.CID.String()+"?format=car", "")
	b, _ := share(t, l, car)
	got, stderr, err := decode(l.URL(), car, "--share", b)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v: %s", len(got), err, stderr)
	}
	if !strings.Contains(stderr, `"name": "a.bin"`) {
		t.Errorf("the metadata is %s", stderr)
	}
}

// The commands in docs/gateway.md, to the letter.
func TestGuideOpensAFileWithoutDetach(t *testing.T) {
	needPython(t)
	servers.Need(t, "curl")
	guide, err := os.ReadFile("../../docs/gateway.md")
	must.Succeed(t, err)
	commands := regexp.MustCompile("(?s)```sh\n(URL=.*?decode\\.py.*?)```").FindSubmatch(guide)
	if commands == nil {
		t.Fatal("docs/gateway.md has no commands with decode.py")
	}
	dir := t.TempDir()
	decoder, err := os.ReadFile("../../docs/decode.py")
	must.Succeed(t, err)
	must.Succeed(t, os.WriteFile(filepath.Join(dir, "decode.py"), decoder, 0o600))
	content := fetchtest.Random(2<<20 + 1)
	l := fetchtest.New(t).Store(t, content)
	cmd := exec.Command("sh", "-ec", string(commands[1]))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LINK="+l.URL())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(content))
	}
}

// The end in the gateway's answer counts: the metadata of an extended file still has the old one.
func TestDecodePyOpensAnExtendedFile(t *testing.T) {
	needPython(t)
	site := fetchtest.New(t)
	l := site.StoreEnded(t, fetchtest.File{Name: "a.bin", Type: "application/octet-stream", Content: []byte("kept")})
	end := site.Extend(t, l)
	car := download(t, l.Base+"/ipfs/"+l.CID.String()+"?format=car", "")
	b, expires := share(t, l, car)
	if expires != end.UTC().Format(time.RFC3339) {
		t.Errorf("the gateway says %s, want %v", expires, end)
	}
	if _, stderr, err := decode(l.URL(), car, "--share", b); err == nil || stderr != "refused: expired" {
		t.Errorf("without the new end: %v, %s", err, stderr)
	}
	if got, stderr, err := decode(l.URL(), car, "--share", b, "--expires", expires); err != nil || string(got) != "kept" {
		t.Errorf("got %q, %v, %s", got, err, stderr)
	}
}

// With the operator's key file the share follows, until the object's key is destroyed. Its
// neighbour opens all the same.
func TestDecodePyOpensWithAKeyFile(t *testing.T) {
	needPython(t)
	site := fetchtest.New(t)
	first, second := site.Store(t, []byte("first")), site.Store(t, []byte("second"))
	files, err := filepath.Glob(filepath.Join(site.Dir, "keys", "*.key"))
	if err != nil || len(files) != 1 {
		t.Fatalf("key files %v, %v", files, err)
	}
	cars := make(map[string]string)
	for text, l := range map[string]link.Link{"first": first, "second": second} {
		cars[text] = download(t, l.Base+"/ipfs/"+l.CID.String()+"?format=car", "")
		if got, stderr, err := decode(l.URL(), cars[text], "--key-file", files[0]); err != nil || string(got) != text {
			t.Errorf("%s: got %q, %v, %s", text, got, err, stderr)
		}
	}
	destroy(t, site, first)
	if got, stderr, err := decode(first.URL(), cars["first"], "--key-file", files[0]); err == nil || len(got) != 0 || stderr != "refused: destroyed" {
		t.Errorf("destroyed: got %q, %v, %s", got, err, stderr)
	}
	if got, stderr, err := decode(second.URL(), cars["second"], "--key-file", files[0]); err != nil || string(got) != "second" {
		t.Errorf("the neighbour: got %q, %v, %s", got, err, stderr)
	}
}

func destroy(t *testing.T, site *fetchtest.Site, l link.Link) {
	t.Helper()
	o, err := site.Vault.Object(t.Context(), l.CID)
	must.Succeed(t, err)
	must.Succeed(t, o.Close())
	keys, err := keyring.Open(filepath.Join(site.Dir, "keys"))
	must.Succeed(t, err)
	epochs, err := keys.Epochs()
	must.Succeed(t, err)
	must.Succeed(t, keys.Destroy(epochs[0], o.Core()))
}
