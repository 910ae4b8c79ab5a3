package e2e

import (
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

func lookAt(t *testing.T, views []pageView, args ...string) []pageSeen {
	t.Helper()
	if !isDir("browser/node_modules/axe-core") {
		servers.Missing(t, "axe-core: run npm ci in e2e/browser")
	}
	var saw []pageSeen
	node(t, "states.mjs", views, &saw, args...)
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
	s := startKubo(t)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false", keys: "retention = \"48h\""})
	unreachable := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, kubo: s.api(), policy: "min_size = \"1\"\nrestore = false"})
	name := "Aufstellung der Kosten – März 2026 (endgültig) مسودة.pdf"
	file := attachment{name, "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''" + url.PathEscape(name) + "\r\n", noise(91, 1234)}
	links := d.put(t, file, fileOf("revoked.bin", noise(92, 10)), fileOf("expired.bin", noise(93, 10)))
	ready, revoked, expired := links[0], links[1], links[2]
	away := unreachable.put(t, fileOf("away.bin", noise(94, 10)))[0]
	must(t, os.WriteFile(filepath.Join(d.dataDir, "denied"), []byte(revoked.cid+"\n"), 0o600))
	d.age(t, expired)
	s.kubo.Kill()
	const crowd = "203.0.113.7"
	crowdIn(t, d.url, crowd)

	wrong := ready.url[:len(ready.url)-1] + map[bool]string{true: "2", false: "3"}[ready.url[len(ready.url)-1] != '2']
	conditions := []condition{
		{"ready", ready.url, "ready", "Download", 200, ""},
		{"incomplete", ready.page, "missing", "The end of the link is missing", 200, ""},
		{"cut", ready.url[:len(ready.url)-9], "cut", "The link was cut short", 200, ""},
		{"wrong", wrong, "wrong", "The link does not fit this file", 200, ""},
		{"expired", expired.url, "", "This file has expired", 410, ""},
		{"revoked", revoked.url, "", "This file was withdrawn", 410, ""},
		{"not-stored-here", strings.Replace(away.url, unreachable.url, d.url, 1), "", "This file is not stored here", 404, ""},
		{"cut-in-the-cid", ready.page[:len(ready.page)-5], "", "The link is not complete", 400, ""},
		{"out-of-reach", away.url, "", "The file cannot be reached just now", 503, ""},
		{"too-many", ready.url, "", "Too many requests", 429, crowd},
		{"home", d.url + "/", "", "Files sent by mail", 200, ""},
	}
	var views []pageView
	for _, c := range conditions {
		for _, device := range []string{"desktop", "phone", "narrow"} {
			shot, err := filepath.Abs(filepath.Join(artefacts, fmt.Sprintf("state-%s-%s.png", c.name, device)))
			must(t, err)
			views = append(views, pageView{URL: c.url, State: c.state, Device: device, Dark: device == "phone", Locale: "en-GB", Forwarded: c.forwarded, Screenshot: shot})
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
		must(t, err)
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
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	l := d.put(t, fileOf("languages.bin", noise(95, 2_500_000)))[0]
	said := map[string]string{"en-US": "Download", "fr-CA": "Télécharger", "de-AT": "Herunterladen", "es-MX": "Descargar", "pt-BR": "Download"}
	var views []pageView
	var locales []string
	for locale := range said {
		locales = append(locales, locale)
		shot, err := filepath.Abs(filepath.Join(artefacts, "language-"+locale+".png"))
		must(t, err)
		views = append(views, pageView{URL: l.url, State: "ready", Device: "phone", Locale: locale, Screenshot: shot})
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
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	names := map[string]string{
		"image": "harbour.JPG", "audio": "tune.mp3", "video": "film.mov", "pdf": "paper.pdf", "text": "notes.txt", "archive": "all.tar.gz", "sheet": "costs.xlsx",
		"document": "letter.docx", "slides": "talk.pptx", "mail": "forwarded.eml", "other": "model.stl",
	}
	var kinds []string
	var views []pageView
	for kind, name := range names {
		kinds = append(kinds, kind)
		l := d.put(t, fileOf(name, noise(96, 10)))[0]
		shot, err := filepath.Abs(filepath.Join(artefacts, "icon-"+kind+".png"))
		must(t, err)
		views = append(views, pageView{URL: l.url, State: "ready", Device: []string{"desktop", "phone"}[len(kinds)%2], Dark: len(kinds)%4 < 2, Locale: "en", Screenshot: shot})
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
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 321, 7))))
	for name, tt := range map[string]struct{ content, want string }{
		"picture.png": {picture.String(), "img 321"},
		"tone.wav":    {wave(8000), "audio 1"},
		"note.txt":    {"Grüße <b>an alle</b>\n", "Grüße <b>an alle</b>\n"},
		"page.txt":    {"<!doctype html><script>document.title = 'run'</script>", "This file cannot be shown here"},
		"drawing.png": {"<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>", "<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=1'/>"},
	} {
		l := d.put(t, fileOf(name, []byte(tt.content)))[0]
		shot, err := filepath.Abs(filepath.Join(artefacts, "view-"+name+".png"))
		must(t, err)
		saw := lookAt(t, []pageView{{URL: l.url, State: "ready", Device: "phone", Locale: "en", View: true, Screenshot: shot}})[0]
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
func (d *detach) age(t *testing.T, l link) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.dataDir, "ledger", "*.jsonl"))
	must(t, err)
	for _, path := range files {
		text, err := os.ReadFile(path)
		must(t, err)
		var aged []string
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, l.cid) {
				var entry struct {
					CID     string    `json:"cid"`
					Size    int64     `json:"size"`
					Created time.Time `json:"created"`
				}
				must(t, json.Unmarshal([]byte(line), &entry))
				entry.Created = entry.Created.AddDate(-1, 0, 0)
				changed, err := json.Marshal(entry)
				must(t, err)
				line = string(changed) + "\n"
			}
			aged = append(aged, line)
		}
		must(t, os.WriteFile(path, []byte(strings.Join(aged, "")), 0o600))
	}
}
