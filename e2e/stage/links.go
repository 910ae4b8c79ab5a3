package stage

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

var linkPattern = regexp.MustCompile(`https?://[^\s"'<>]+/(baf[a-z2-7]+)(/all)?#(z[1-9A-HJ-NP-Za-km-z]+)`)

// Link is a link in a mail: to a file, or to all files of the mail.
type Link struct {
	URL, Page, CID, Fragment string
	All                      bool
}

func (l Link) String() string { return l.URL }

// LinksIn finds the links in a text, each once, and notes their secrets.
func LinksIn(text string) []Link {
	var found []Link
	for _, m := range linkPattern.FindAllStringSubmatch(text, -1) {
		page, _, _ := strings.Cut(m[0], "#")
		l := Link{URL: m[0], Page: page, CID: m[1], Fragment: m[3], All: m[2] != ""}
		if !slices.Contains(found, l) {
			KeepSecret(FragmentSecret, l.Fragment)
			found = append(found, l)
		}
	}
	return found
}

// AnyLinks finds the links in the text parts, each once.
func (p Parsed) AnyLinks() []Link {
	var texts strings.Builder
	for _, leaf := range p.Leaves {
		texts.WriteString(leaf.Text + "\n")
	}
	return LinksIn(texts.String())
}

// Links finds the links to single files.
func (p Parsed) Links() []Link {
	return slices.DeleteFunc(p.AnyLinks(), func(l Link) bool { return l.All })
}

// Link returns the link to the mail's one file.
func (p Parsed) Link(t servers.T) Link {
	t.Helper()
	links := p.Links()
	if len(links) != 1 {
		t.Fatalf("%d links in the rewritten mail, want 1", len(links))
	}
	return links[0]
}

// Original finds the link to the original mail.
func (p Parsed) Original() (Link, bool) {
	links := LinksIn(p.Restore)
	if len(links) != 1 {
		return Link{}, false
	}
	return links[0], true
}

// CheckFiles checks that the mail's links lead to these files and to nothing else, each file alone
// and all in one ZIP.
func (p Parsed) CheckFiles(t servers.T, files ...Attachment) []Link {
	t.Helper()
	links := p.Links()
	if len(links) != len(files) {
		t.Fatalf("%d links, want %d in %+v", len(links), len(files), p)
	}
	for i, l := range links {
		if got := FileHash(t, l); got != files[i].SHA256() {
			t.Errorf("%s: SHA-256 %s, want %s", files[i].Name, got, files[i].SHA256())
		}
	}
	p.CheckAll(t, Hashes(files))
	return links
}

// CheckAll is All, whose error fails the test.
func (p Parsed) CheckAll(t servers.T, want []string) Link {
	t.Helper()
	all, err := p.All(t.Context(), want)
	if err != nil {
		t.Error(err)
	}
	return all
}

// All returns the link to all files of a mail, which only a mail with several files has. It returns
// an error if the link does not lead to a ZIP of the files with these hashes.
func (p Parsed) All(ctx context.Context, want []string) (Link, error) {
	all := slices.DeleteFunc(p.AnyLinks(), func(l Link) bool { return !l.All })
	if expected := min(1, len(want)/2); len(all) != expected {
		return Link{}, fmt.Errorf("%d links to all of %d files, want %d", len(all), len(want), expected)
	}
	if len(all) == 0 {
		return Link{}, nil
	}
	got, err := all[0].ZIPHashes(ctx)
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("the files have SHA-256 %q, want %q", got, want)
	}
	if err != nil {
		return Link{}, fmt.Errorf("the ZIP of all files, object %s: %w", all[0].CID, err)
	}
	return all[0], nil
}

// ZIPHashes downloads a ZIP and returns the hashes of the files in it, in hex.
func (l Link) ZIPHashes(ctx context.Context) ([]string, error) {
	var content bytes.Buffer
	if err := l.Download(ctx, &content); err != nil {
		return nil, err
	}
	return Unzip(content.Bytes())
}

// Unzip returns the hashes of the files in a ZIP, in hex.
func Unzip(content []byte) (hashes []string, err error) {
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		file, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, SHA256(file))
	}
	return hashes, nil
}

// StatusError is the status of an answer that the caller did not want.
type StatusError int

func (e StatusError) Error() string { return fmt.Sprintf("the gateway answered %d", int(e)) }

// NoRedirects is a client that follows no redirect.
var NoRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// Ticket posts the link's key, as the page's button does, and returns the address to which the
// gateway redirects the browser.
func (l Link) Ticket(ctx context.Context, client *http.Client) (string, error) {
	form := url.Values{"key": {l.Fragment}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.Page, strings.NewReader(form))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		return "", StatusError(resp.StatusCode)
	}
	where, err := resp.Location()
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(where.Path, "/t/")
	ticket, _, _ := strings.Cut(rest, "/")
	KeepSecret(TicketSecret, ticket) // which ignores the empty one
	return where.String(), nil
}

// Download reads the file as a browser without JavaScript does.
func (l Link) Download(ctx context.Context, w io.Writer) error {
	return l.DownloadBy(ctx, NoRedirects, w)
}

// DownloadBy is Download by a client that follows no redirects.
func (l Link) DownloadBy(ctx context.Context, client *http.Client, w io.Writer) error {
	where, err := l.Ticket(ctx, client)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return StatusError(resp.StatusCode)
	}
	n, err := io.Copy(w, resp.Body)
	if err == nil && n != resp.ContentLength {
		err = fmt.Errorf("%d bytes, Content-Length %d", n, resp.ContentLength)
	}
	return err
}

// FileHash downloads a file and returns its SHA-256 in hex.
func FileHash(t servers.T, l Link) string {
	t.Helper()
	h := sha256.New()
	if err := l.Download(t.Context(), h); err != nil {
		t.Errorf("download: %v", err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Key joins the file key from the link's fragment and the gateway's share, as `detach get` does,
// and notes both.
func (l Link) Key(t servers.T) string {
	t.Helper()
	fragment, share := l.halves(t)
	joined := make([]byte, 32)
	for i := range joined {
		joined[i] = share.Bytes()[i] ^ fragment.Bytes()[i]
	}
	key := hex.EncodeToString(joined)
	KeepSecret(ShareSecret, share.Encode())
	KeepSecret(ShareSecret, hex.EncodeToString(share.Bytes()))
	KeepSecret(FragmentSecret, hex.EncodeToString(fragment.Bytes()))
	KeepSecret(KeySecret, key)
	return key
}

// FileKey is Key as the program holds it.
func (l Link) FileKey(t servers.T) crypto.Key {
	t.Helper()
	return crypto.Join(l.halves(t))
}

// halves returns the link's half of the key, and the gateway's, which it gives for a proof.
func (l Link) halves(t servers.T) (crypto.Fragment, crypto.Share) {
	t.Helper()
	fragment, err := crypto.ParseFragment(l.Fragment)
	Must(t, err)
	var answer struct{ Share string }
	proof := fragment.Proof(l.core(t)).Encode()
	Must(t, json.Unmarshal(l.get(t, "/"+l.CID+"/share", "Authorization", "Detach "+proof), &answer))
	share, err := crypto.ParseShare(answer.Share)
	Must(t, err)
	return fragment, share
}

// core returns the CID of the object's directory without its last entry, origin, which takes 54
// bytes before the 4 that end the directory.
func (l Link) core(t servers.T) cid.Cid {
	t.Helper()
	root := l.get(t, "/ipfs/"+l.CID+"?format=raw")
	sum, err := multihash.Sum(slices.Concat(root[:len(root)-54], root[len(root)-4:]), multihash.SHA2_256, -1)
	Must(t, err)
	return cid.NewCidV1(cid.DagProtobuf, sum)
}

// get returns what the link's gateway answers to a path.
func (l Link) get(t servers.T, path string, header ...string) []byte {
	t.Helper()
	base, _, _ := strings.Cut(l.Page, "/"+l.CID)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
	Must(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	Must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	Must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return body
}
