package web

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// albumFiles are three files, two of which have the same name.
var albumFiles = []stage.Attachment{
	stage.FileOf("harbour.jpeg", stage.Noise(81, 3<<20+5)), stage.FileOf("notes.txt", stage.Noise(82, 999)), stage.FileOf("harbour.jpeg", stage.Noise(83, 1<<20)),
}

func album() string {
	mail := stage.Head("the harbour, in three files") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhere they are\r\n"
	for _, f := range albumFiles {
		mail += "--b\r\n" + f.Part()
	}
	return mail + "--b--\r\n"
}

// listed is a file in a list that a page shows.
type listed struct{ Name, Size, Kind, Href string }

// filePage is the page of a file that was opened from the list.
type filePage struct {
	Address, Title, Up string
	Files              []listed
}

type seenAll struct {
	Title, Button, Saved, SavedAgain, Menu, Error string
	Files                                         []listed
	File, Reloaded, Other, Tab                    filePage
	Alone                                         struct {
		All  bool
		Text string
	}
	Requests, Complaints []string
}

// A mail with three files passes two Postfixes. The link to its file list opens a page that lists
// the files. Each entry leads to the file's own page, which lists the others too, and both pages
// give one ZIP. The link to a single file shows that file alone.
func TestFileListInBrowser(t *testing.T) {
	python := stage.StartDecoder(t)
	c := stage.StartChain(t, "", "normalize")
	p := python.Parse(t, c.Deliver(t, album()))
	all, links := p.CheckAll(t, stage.Hashes(albumFiles)), p.Links()
	if len(links) != len(albumFiles) || !strings.HasSuffix(all.Page, "/all") {
		t.Fatalf("%d links, and to all %.40s", len(links), all.Page)
	}
	for _, device := range []string{"desktop", "phone"} {
		t.Run(device, func(t *testing.T) {
			dir := t.TempDir()
			zips := []string{filepath.Join(dir, "one.zip"), filepath.Join(dir, "two.zip")}
			s := walkAll(t, map[string]any{"all": all.URL, "single": links[0].URL, "device": device, "dark": device == "phone", "zip": zips[0], "again": zips[1]})
			s.judge(t, all, links)
			for _, path := range zips {
				checkZIP(t, path)
			}
		})
	}
}

// The file list's page fits every screen, speaks every language and is small. It requests the share,
// the list and nothing else, and axe finds nothing wrong.
func TestFileListPageFitsAndSpeaks(t *testing.T) {
	d := stage.Serve(t, stage.Setup{Policy: files, Keys: "retention = \"48h\""})
	all := stage.StartDecoder(t).Parse(t, d.Pipe(t, "filter", strings.NewReader(album()))).CheckAll(t, stage.Hashes(albumFiles))
	says := map[string]string{"en-GB": "Download all (ZIP, 4.2\u00a0MB)", "fr-FR": "Tout télécharger (ZIP, 4,2\u00a0Mo)", "de-DE": "Alle herunterladen (ZIP, 4,2\u00a0MB)", "es-ES": "Descargar todo (ZIP, 4,2\u00a0MB)"}
	var views []pageView
	for locale := range says {
		for _, device := range []string{"desktop", "phone", "narrow"} {
			views = append(views, pageView{URL: all.URL, State: "ready", Device: device, Dark: device == "phone", Locale: locale, Screenshot: fmt.Sprintf("all-%s-%s.png", locale, device)})
		}
	}
	for i, saw := range lookAt(t, views) {
		v := views[i]
		if saw.Error != "" || saw.Status != 200 || !strings.Contains(saw.Text, says[v.Locale]) || !strings.Contains(saw.Text, "notes.txt") {
			t.Errorf("%s, %s: %s %q, want %q", v.Locale, v.Device, saw.Error, saw.Text, says[v.Locale])
		}
		if saw.Bytes >= maxPage || len(saw.Requests) != 3 || saw.Cookies > 0 {
			t.Errorf("%s, %s: %d bytes, requests %d, %d cookies: want under %d, 3, none", v.Locale, v.Device, saw.Bytes, len(saw.Requests), saw.Cookies, maxPage)
		}
		if saw.Wide || len(saw.Small) > 0 || len(saw.Violations) > 0 || len(saw.Complaints) > 0 {
			t.Errorf("%s, %s: wider than the screen: %v; too small for a finger: %q; axe finds %q; complaints %q", v.Locale, v.Device, saw.Wide, saw.Small, saw.Violations, saw.Complaints)
		}
	}
}

// walkAll runs browser/all.mjs, which goes from page to page.
func walkAll(t *testing.T, told map[string]any) (s seenAll) {
	t.Helper()
	told["screenshots"] = stage.Artifact(t, fmt.Sprint("files-", told["device"]))
	stage.Node(t, "all.mjs", told, &s)
	if s.Error != "" || len(s.Complaints) > 0 {
		t.Fatalf("in the browser: %s\ncomplaints: %q", s.Error, s.Complaints)
	}
	return s
}

func (s seenAll) judge(t *testing.T, all stage.Link, links []stage.Link) {
	t.Helper()
	want := []listed{{"harbour.jpeg", "3.1\u00a0MB", "image", links[0].URL}, {"notes.txt", "999\u00a0bytes", "text", links[1].URL}, {"harbour.jpeg", "1\u00a0MB", "image", links[2].URL}}
	if s.Title != "3 files" || s.Button != "Download all (ZIP, 4.2\u00a0MB)" || !slices.Equal(s.Files, want) {
		t.Errorf("the page to all shows %q, %q and %q, want %q", s.Title, s.Button, s.Files, want)
	}
	if s.Saved != "files.zip" || s.SavedAgain != "files.zip" {
		t.Errorf("saved as %q and %q", s.Saved, s.SavedAgain)
	}
	if s.Menu != links[2].URL {
		t.Errorf("the link that would be copied is not that of the file alone")
	}
	for name, tt := range map[string]struct {
		page filePage
		of   int
	}{"clicked": {s.File, 2}, "reloaded": {s.Reloaded, 2}, "in a tab": {s.Tab, 2}, "from there": {s.Other, 0}} {
		others := slices.Clone(want)
		others[tt.of].Href = ""
		if tt.page.Title != want[tt.of].Name || tt.page.Up != all.URL || !slices.Equal(tt.page.Files, others) {
			t.Errorf("%s: the page of file %d has the title %q and the list %q", name, tt.of, tt.page.Title, tt.page.Files)
		}
		if tt.page.Address != links[tt.of].URL {
			t.Errorf("%s: the page of file %d does not stand under the file's own link", name, tt.of)
		}
	}
	if s.Alone.All || strings.Contains(s.Alone.Text, links[1].CID) || strings.Contains(s.Alone.Text, "notes.txt") || strings.Contains(s.Alone.Text, all.CID) {
		t.Error("the page of a single file tells of the others")
	}
	for _, r := range s.Requests {
		_, address, _ := strings.Cut(r, " ")
		address, _, _ = strings.Cut(address, "#")
		for _, l := range append(links, all) {
			if strings.Contains(address, l.Fragment) {
				t.Error("a fragment went out in a request's URL")
			}
		}
	}
}

// checkZIP unpacks the ZIP with Info-ZIP.
func checkZIP(t *testing.T, path string) {
	t.Helper()
	servers.Need(t, "unzip")
	dir := t.TempDir()
	if out, err := exec.Command("unzip", "-q", path, "-d", dir).CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v\n%s", err, out)
	}
	for i, name := range []string{"harbour.jpeg", "notes.txt", "harbour (2).jpeg"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if got, want := stage.SHA256(content), albumFiles[i].SHA256(); err != nil || got != want {
			t.Errorf("%s: SHA-256 %s, want %s (%v)", name, got, want, err)
		}
	}
}

// The download of a ZIP breaks off when the gateway dies, and resumes when the gateway is back.
func TestZIPResumesAfterRestart(t *testing.T) {
	d := serve(t)
	all := stage.StartDecoder(t).Parse(t, d.Pipe(t, "filter", strings.NewReader(album()))).CheckAll(t, stage.Hashes(albumFiles))
	var whole bytes.Buffer
	stage.Must(t, all.Download(t.Context(), &whole))

	file, err := all.Ticket(t.Context(), stage.NoRedirects)
	stage.Must(t, err)
	resp, err := http.Get(file)
	stage.Must(t, err)
	got := make([]byte, whole.Len()/2)
	_, err = io.ReadFull(resp.Body, got)
	stage.Must(t, err)
	d.Kill(t)
	resp.Body.Close()
	d.Start(t)

	req, err := http.NewRequest("GET", file, nil)
	stage.Must(t, err)
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(got)))
	req.Header.Set("If-Range", resp.Header.Get("Etag"))
	resp, err = http.DefaultClient.Do(req)
	stage.Must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		t.Fatalf("%s, want 206", resp.Status)
	}
	rest, err := io.ReadAll(resp.Body)
	stage.Must(t, err)
	if sum, want := stage.SHA256(append(got, rest...)), stage.SHA256(whole.Bytes()); sum != want {
		t.Errorf("the resumed ZIP has SHA-256 %s, want %s", sum, want)
	}
}
