package web

import (
	"github.com/nkirchhoffer/detach-mta/e2e/stage"

	"bytes"
	le "encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// pageView is a page to be looked at; see browser/states.mjs.
type pageView struct {
	URL        string `json:"url"`
	State      string `json:"state"` // of the html element, where a script sets one
	Device     string `json:"device"`
	Dark       bool   `json:"dark"`
	Locale     string `json:"locale"`
	Forwarded  string `json:"forwarded"`
	View       bool   `json:"view"` // open the frame in which the file is shown
	Screenshot string `json:"screenshot"`
}

// pageSeen is what was seen of it.
type pageSeen struct {
	Status, Bytes, Cookies                          int
	Retry, Lang, Title, Text, Viewed, Origin, Error string
	Wide                                            bool
	Requests, Small, Violations, Complaints         []string
	Icon                                            struct {
		Kind, Drawing string
		Fits, Hidden  bool
	}
}

// lookAt opens pages in a browser.
func lookAt(t *testing.T, views []pageView, args ...string) []pageSeen {
	t.Helper()
	for i := range views {
		if views[i].Screenshot != "" {
			views[i].Screenshot = stage.Artifact(t, views[i].Screenshot)
		}
	}
	var saw []pageSeen
	stage.Node(t, "states.mjs", views, &saw, args...)
	if len(saw) != len(views) {
		t.Fatalf("%d pages seen, want %d", len(saw), len(views))
	}
	return saw
}

// condition is one that a recipient may find a link in.
type condition struct {
	name, url, state, says string
	status                 int
	forwarded              string
}

// maxPage is what a page may weigh, all told.
const maxPage = 30 << 10

// Every state has a page that says what is the matter, in words and by its status; in each size of screen and each scheme of colours it
// fits, weighs little, asks nobody else for anything, and axe finds nothing.
func TestEveryState(t *testing.T) {
	node := servers.Kubo(t)
	d := stage.Serve(t, stage.Setup{Policy: files, Keys: "retention = \"48h\""})
	unreachable := stage.Serve(t, stage.Setup{Kubo: node.API(), Policy: files})
	name := "Aufstellung der Kosten – März 2026 (endgültig) مسودة.pdf"
	file := stage.Attachment{Name: name, Header: "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''" + url.PathEscape(name) + "\r\n", Content: stage.Noise(91, 1234)}
	links := d.Put(t, file, stage.FileOf("revoked.bin", stage.Noise(92, 10)), stage.FileOf("expired.bin", stage.Noise(93, 10)))
	ready, revoked, expired := links[0], links[1], links[2]
	away := unreachable.Put(t, stage.FileOf("away.bin", stage.Noise(94, 10)))[0]
	stage.Must(t, os.WriteFile(filepath.Join(d.DataDir, "denied"), []byte(revoked.CID+"\n"), 0o600))
	age(t, d, expired)
	node.Kill()
	const crowd = "203.0.113.7"
	crowdIn(t, d.URL, crowd)

	wrong := ready.URL[:len(ready.URL)-1] + map[bool]string{true: "2", false: "3"}[ready.URL[len(ready.URL)-1] != '2']
	conditions := []condition{
		{"ready", ready.URL, "ready", "Download", 200, ""},
		{"incomplete", ready.Page, "missing", "The end of the link is missing", 200, ""},
		{"cut", ready.URL[:len(ready.URL)-9], "cut", "The link was cut short", 200, ""},
		{"wrong", wrong, "wrong", "The link does not fit this file", 200, ""},
		{"expired", expired.URL, "", "This file has expired", 410, ""},
		{"revoked", revoked.URL, "", "This file was withdrawn", 410, ""},
		{"not-stored-here", strings.Replace(away.URL, unreachable.URL, d.URL, 1), "", "This file is not stored here", 404, ""},
		{"cut-in-the-cid", ready.Page[:len(ready.Page)-5], "", "The link is not complete", 400, ""},
		{"out-of-reach", away.URL, "", "The file cannot be reached just now", 503, ""},
		{"too-many", ready.URL, "", "Too many requests", 429, crowd},
		{"home", d.URL + "/", "", "Files sent by mail", 200, ""},
	}
	var views []pageView
	for _, c := range conditions {
		for _, device := range []string{"desktop", "phone", "narrow"} {
			views = append(views, pageView{URL: c.url, State: c.state, Device: device, Dark: device == "phone", Locale: "en-GB", Forwarded: c.forwarded, Screenshot: fmt.Sprintf("state-%s-%s.png", c.name, device)})
		}
	}
	for i, saw := range lookAt(t, views) {
		c, v := conditions[i/3], views[i]
		t.Run(c.name+"/"+v.Device, func(t *testing.T) { c.judge(t, saw, v) })
	}
}

// crowdIn asks for more than one address may, from now until the test ends, and returns when it is told so.
func crowdIn(t *testing.T, gateway, from string) {
	t.Helper()
	ask := func() int {
		req, err := http.NewRequest("GET", gateway+"/robots.txt", nil)
		stage.Must(t, err)
		req.Header.Set("X-Forwarded-For", from)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	servers.Eventually(t, time.Minute, "429 for who asks too much", func() bool {
		for range 100 {
			if ask() == http.StatusTooManyRequests {
				return true
			}
		}
		return false
	})
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done })
	go func() {
		defer close(done)
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				ask()
			}
		}
	}()
}

func (c condition) judge(t *testing.T, saw pageSeen, v pageView) {
	if saw.Error != "" {
		t.Fatal(saw.Error)
	}
	if saw.Status != c.status || !strings.Contains(saw.Text, c.says) {
		t.Errorf("status %d, %q: want %d and %q", saw.Status, saw.Text, c.status, c.says)
	}
	if wait := c.status == 503 || c.status == 429; wait != (saw.Retry != "") {
		t.Errorf("status %d with Retry-After %q", saw.Status, saw.Retry)
	}
	if saw.Bytes >= maxPage || len(saw.Requests) != 1 || saw.Cookies > 0 {
		t.Errorf("%d bytes, requests %d, %d cookies: want under %d, 1, none", saw.Bytes, len(saw.Requests), saw.Cookies, maxPage)
	}
	if saw.Wide || len(saw.Small) > 0 {
		t.Errorf("wider than the screen: %v; too small for a finger: %q", saw.Wide, saw.Small)
	}
	if len(saw.Violations) > 0 {
		t.Errorf("axe finds %q", saw.Violations)
	}
	for _, complaint := range saw.Complaints {
		if !strings.Contains(complaint, fmt.Sprintf("status of %d", c.status)) { // which Chromium says of every page that is not 200
			t.Errorf("the browser complains: %s", complaint)
		}
	}
}

// Each language has all of it, and the browser's wish decides.
func TestPagesInEveryLanguage(t *testing.T) {
	d := serve(t)
	l := d.Put(t, stage.FileOf("languages.bin", stage.Noise(95, 2_500_000)))[0]
	said := map[string]string{"en-US": "Download", "fr-CA": "Télécharger", "de-AT": "Herunterladen", "es-MX": "Descargar", "pt-BR": "Download"}
	var views []pageView
	var locales []string
	for locale := range said {
		locales = append(locales, locale)
		views = append(views, pageView{URL: l.URL, State: "ready", Device: "phone", Locale: locale, Screenshot: "language-" + locale + ".png"})
	}
	for i, saw := range lookAt(t, views) {
		want := said[locales[i]]
		if saw.Error != "" || !strings.Contains(saw.Text, want) || len(saw.Violations) > 0 {
			t.Errorf("%s: %q, axe finds %q, %s; want %q", locales[i], saw.Text, saw.Violations, saw.Error, want)
		}
		if base, _, _ := strings.Cut(locales[i], "-"); base != "pt" && saw.Lang != base {
			t.Errorf("%s: the page says that it is in %q", locales[i], saw.Lang)
		}
	}
}

// A file's page shows of what kind it is, by the ending of its name, in a drawing of the page's own.
func TestIconOfEachKind(t *testing.T) {
	d := serve(t)
	names := map[string]string{
		"image": "harbour.JPG", "audio": "tune.mp3", "video": "film.mov", "pdf": "paper.pdf", "text": "notes.txt", "archive": "all.tar.gz", "sheet": "costs.xlsx",
		"document": "letter.docx", "slides": "talk.pptx", "mail": "forwarded.eml", "other": "model.stl",
	}
	var kinds []string
	var views []pageView
	for kind, name := range names {
		kinds = append(kinds, kind)
		l := d.Put(t, stage.FileOf(name, stage.Noise(96, 10)))[0]
		views = append(views, pageView{URL: l.URL, State: "ready", Device: []string{"desktop", "phone"}[len(kinds)%2], Dark: len(kinds)%4 < 2, Locale: "en", Screenshot: "icon-" + kind + ".png"})
	}
	drawn := make(map[string]string)
	for i, saw := range lookAt(t, views) {
		icon := saw.Icon
		if saw.Error != "" || icon.Kind != kinds[i] || icon.Drawing == "" || !icon.Fits || !icon.Hidden {
			t.Errorf("%s: %+v, %s", names[kinds[i]], icon, saw.Error)
		}
		if same, ok := drawn[icon.Drawing]; ok {
			t.Errorf("%s and %s look alike", same, kinds[i])
		}
		drawn[icon.Drawing] = kinds[i]
		if saw.Bytes >= maxPage || len(saw.Requests) != 1 || len(saw.Violations) > 0 || len(saw.Complaints) > 0 {
			t.Errorf("%s: %d bytes, requests %d, axe finds %q, complaints %q", kinds[i], saw.Bytes, len(saw.Requests), saw.Violations, saw.Complaints)
		}
	}
}

// Files can be looked at in the page, in a frame that has no origin. What is not what its name says is not shown, and no markup is
// ever rendered.
func TestLookingAtFiles(t *testing.T) {
	faults.Covers(t, 83)
	d := serve(t)
	var picture bytes.Buffer
	stage.Must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 321, 7))))
	for name, tt := range map[string]struct{ content, want string }{
		"picture.png": {picture.String(), "img 321"},
		"tone.wav":    {wave(8000), "audio 1"},
		"note.txt":    {"Grüße <b>an alle</b>\n", "Grüße <b>an alle</b>\n"},
		"page.txt":    {"<!doctype html><script>document.title = 'run'</script>", "This file cannot be shown here"},
		"drawing.png": {"<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>", "<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>"},
	} {
		l := d.Put(t, stage.FileOf(name, []byte(tt.content)))[0]
		saw := lookAt(t, []pageView{{URL: l.URL, State: "ready", Device: "phone", Locale: "en", View: true, Screenshot: "view-" + name + ".png"}})[0]
		if strings.TrimSpace(saw.Viewed) != strings.TrimSpace(tt.want) || saw.Origin != "null" || saw.Error != "" {
			t.Errorf("%s: shown %q by the origin %q, %s: want %q", name, saw.Viewed, saw.Origin, saw.Error, tt.want)
		}
		if saw.Title != name || len(saw.Violations) > 0 {
			t.Errorf("%s: the title is %q, axe finds %q", name, saw.Title, saw.Violations)
		}
	}
}

// wave is a second of silence.
func wave(rate uint32) string {
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt ")
	b = le.LittleEndian.AppendUint32(b, 16)
	b = append(b, 1, 0, 1, 0)
	b = le.LittleEndian.AppendUint32(b, rate)
	b = le.LittleEndian.AppendUint32(b, rate)
	b = append(b, 1, 0, 8, 0)
	b = le.LittleEndian.AppendUint32(append(b, "data"...), rate)
	b = append(b, bytes.Repeat([]byte{128}, int(rate))...)
	le.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return string(b)
}

// age makes the ledger say that an object is a year old.
func age(t *testing.T, d *stage.Detach, l stage.Link) {
	t.Helper()
	for _, name := range d.Files(t, "ledger/*.jsonl") {
		path := filepath.Join(d.DataDir, name)
		text, err := os.ReadFile(path)
		stage.Must(t, err)
		var aged strings.Builder
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, l.CID) {
				entry := make(map[string]any)
				stage.Must(t, json.Unmarshal([]byte(line), &entry))
				created, err := time.Parse(time.RFC3339, entry["created"].(string))
				stage.Must(t, err)
				entry["created"] = created.AddDate(-1, 0, 0)
				changed, err := json.Marshal(entry)
				stage.Must(t, err)
				line = string(changed) + "\n"
			}
			aged.WriteString(line)
		}
		stage.Must(t, os.WriteFile(path, []byte(aged.String()), 0o600))
	}
}
