package web

import (
	"bytes"
	le "encoding/binary"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/nkirchhoffer/detach-mta/crypto"
	"github.com/nkirchhoffer/detach-mta/crypto/keyring"
	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// pageView is a page to open; see browser/states.mjs.
type pageView struct {
	URL        string `json:"url"`
	State      string `json:"state"` // of the html element, where a script sets one
	Device     string `json:"device"`
	Dark       bool   `json:"dark"`
	Locale     string `json:"locale"`
	Forwarded  string `json:"forwarded"`
	Paste      string `json:"paste"`  // into the page's field
	View       bool   `json:"view"`   // open the frame in which the file is shown
	Slow       int    `json:"slow"`   // milliseconds before the share is asked for
	Share      int    `json:"share"`  // the status of the share's answer, if it is refused
	Listed     bool   `json:"listed"` // wait for the list of files
	Late       int    `json:"late"`   // milliseconds before the list's content is asked for
	Screenshot string `json:"screenshot"`
}

// pageSeen is what the browser found on a page.
type pageSeen struct {
	Status, Bytes, Cookies                          int
	Retry, Lang, Title, Text, Viewed, Origin, Error string
	Shift                                           float64 // how far the page moved while it was read
	Wait                                            float64 // milliseconds from the page to the share
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

// condition is a state in which a recipient may find a link, and what the page must say.
type condition struct {
	name, url, state, says string
	status                 int
	forwarded              string
}

// requests returns how many the browser makes. A page with the right link asks for the share.
func (c condition) requests() int {
	if c.state == "ready" {
		return 2
	}
	return 1
}

// maxPage is how many bytes a page may have.
const maxPage = 30 << 10

// Every state of a link has a page that says what is wrong, in words and by its status. On each
// size of screen and in each color scheme the page fits, is small, and makes no further request but
// that for the share, and axe finds nothing wrong.
func TestEveryStateHasItsPage(t *testing.T) {
	node := servers.Kubo(t)
	d := stage.Serve(t, stage.Setup{Policy: files, Keys: "retention = \"48h\""})
	unreachable := stage.Serve(t, stage.Setup{Kubo: node.API(), Policy: files})
	name := "Aufstellung der Kosten – März 2026 (endgültig) مسودة.pdf"
	file := stage.Attachment{Name: name, Header: "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''" + url.PathEscape(name) + "\r\n", Content: stage.Noise(91, 1234)}
	links := d.Put(t, file, stage.FileOf("revoked.bin", stage.Noise(92, 10)), stage.FileOf("expired.bin", stage.Noise(93, 10)))
	ready, revoked, expired := links[0], links[1], links[2]
	away := unreachable.Put(t, stage.FileOf("away.bin", stage.Noise(94, 10)))[0]
	stage.Must(t, os.WriteFile(filepath.Join(d.DataDir, "denied"), []byte(revoked.CID+"\n"), 0o600))
	end(t, d, expired)
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

// crowdIn makes more requests than one address may, until the test ends. It returns when the
// gateway has refused one.
func crowdIn(t *testing.T, gateway, from string) {
	t.Helper()
	var refused atomic.Bool
	var crowd sync.WaitGroup
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); crowd.Wait() })
	for range 4 { // one alone might be too slow on a busy machine
		crowd.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				req, err := http.NewRequest("GET", gateway+"/robots.txt", nil)
				stage.Must(t, err)
				req.Header.Set("X-Forwarded-For", from)
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
					refused.CompareAndSwap(false, resp.StatusCode == http.StatusTooManyRequests)
				}
			}
		})
	}
	servers.Eventually(t, servers.Patience, "429 for a client that asks too often", refused.Load)
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
	if saw.Bytes >= maxPage || len(saw.Requests) != c.requests() || saw.Cookies > 0 {
		t.Errorf("%d bytes, requests %q, %d cookies: want under %d, %d, none", saw.Bytes, saw.Requests, saw.Cookies, maxPage, c.requests())
	}
	if saw.Wide || len(saw.Small) > 0 || len(saw.Violations) > 0 {
		t.Errorf("wider than the screen: %v; too small for a finger: %q; axe finds %q", saw.Wide, saw.Small, saw.Violations)
	}
	for _, complaint := range saw.Complaints {
		if !strings.Contains(complaint, fmt.Sprintf("status of %d", c.status)) { // as Chromium does for every page that is not 200
			t.Errorf("the browser complains: %s", complaint)
		}
	}
}

// A link that a mail system has wrapped opens the file when it is pasted, in the page without the
// server's help. If only the mail system's server knows the link, the page says that it leads
// elsewhere.
func TestPastedLinksOfMailSystems(t *testing.T) {
	d := serve(t)
	l := d.Put(t, stage.FileOf("report.pdf", stage.Noise(97, 1234)))[0]
	safe := "https://eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape(l.URL) + "&data=05%7C02%7Cb%40example.org&reserved=0"
	const unknown = "https://protect-eu.mimecast.com/s/rADECvZvDhygB3ktQtrXG?domain=files.example.org"
	replaced := map[string]string{
		"en-GB": "This link leads somewhere else", "de-DE": "Dieser Link führt woandershin", "fr-FR": "Ce lien mène ailleurs", "es-ES": "Este enlace lleva a otro sitio",
	}
	var views []pageView
	var conditions []condition
	for _, device := range []string{"desktop", "phone", "narrow"} {
		look := pageView{URL: l.Page, State: "ready", Device: device, Dark: device == "phone", Locale: "en-GB", Paste: safe, Screenshot: "pasted-wrapped-" + device + ".png"}
		views, conditions = append(views, look), append(conditions, condition{says: "report.pdf", status: 200})
		for locale, says := range replaced {
			if device == "phone" || locale == "en-GB" {
				look := pageView{URL: d.URL + "/", Device: device, Dark: device == "phone", Locale: locale, Paste: unknown, Screenshot: "pasted-replaced-" + device + "-" + locale + ".png"}
				views, conditions = append(views, look), append(conditions, condition{says: says, status: 400})
			}
		}
	}
	for i, saw := range lookAt(t, views) {
		c, v := conditions[i], views[i]
		c.judge(t, saw, v) // the script finds the key, and asks for the share alone
	}
}

// shown is how many milliseconds after its beginning the page may be shown without its name. A busy
// machine may be that slow.
const shown = 800

// The page does not move when the share arrives, and shows the download also while it waits for
// long.
func TestPageStaysCalmWhileItWaits(t *testing.T) {
	d := stage.Serve(t, stage.Setup{Policy: files, Keys: "retention = \"48h\""})
	name := "a report whose name takes several lines, at least on the screens of small phones.pdf"
	l := d.Put(t, stage.FileOf(name, stage.Noise(98, 2_500_000)))[0]
	var views []pageView
	for _, device := range []string{"desktop", "phone", "narrow"} {
		for slow, state := range map[int]string{1: "ready", 300: "ready", 15_000: "opening"} {
			views = append(views, pageView{URL: l.URL, State: state, Slow: slow, Device: device, Dark: device == "phone", Locale: "en-GB", Screenshot: fmt.Sprintf("slow-%d-%s.png", slow, device)})
		}
	}
	for i, saw := range lookAt(t, views) {
		v := views[i]
		t.Logf("%s, %d ms: shift %.4f, waited %.0f ms", v.Device, v.Slow, saw.Shift, saw.Wait)
		if saw.Error != "" || saw.Shift > 0.001 && saw.Wait < shown || !strings.Contains(saw.Text, "Download") {
			t.Errorf("%s, %d ms: the page moves by %.3f, and says %q; %s", v.Device, v.Slow, saw.Shift, saw.Text, saw.Error)
		}
		if v.State == "ready" && saw.Title != name {
			t.Errorf("%s, %d ms: the title is %q", v.Device, v.Slow, saw.Title)
		}
	}
}

// The page of a file that was opened from a list does not move when the list arrives, in time or late.
func TestListMovesNoPage(t *testing.T) {
	d := stage.Serve(t, stage.Setup{Policy: files, Keys: "retention = \"48h\""})
	p := stage.StartDecoder(t).Parse(t, d.Pipe(t, "filter", strings.NewReader(album())))
	all, links := p.CheckAll(t, stage.Hashes(albumFiles)), p.Links()
	var views []pageView
	for _, device := range []string{"desktop", "phone", "narrow"} {
		for _, late := range []int{0, 2000} {
			views = append(views, pageView{URL: links[0].URL + "." + all.CID + "." + all.Fragment, State: "ready", Listed: true, Late: late, Device: device, Dark: device == "desktop",
				Locale: "en-GB", Screenshot: fmt.Sprintf("listed-%d-%s.png", late, device)})
		}
	}
	for i, saw := range lookAt(t, views) {
		v := views[i]
		t.Logf("%s, %d ms: shift %.4f, waited %.0f ms", v.Device, v.Late, saw.Shift, saw.Wait)
		if saw.Error != "" || saw.Shift > 0.001 && saw.Wait < shown || !strings.Contains(saw.Text, "notes.txt") || len(saw.Violations) > 0 || saw.Wide {
			t.Errorf("%s, list %d ms late: the page moves by %.3f, and says %q; %s %q", v.Device, v.Late, saw.Shift, saw.Text, saw.Error, saw.Violations)
		}
	}
}

// If the share is refused, the page asks the server once for the page of that state. If there is
// none, the button still works.
func TestPageOfARefusedShare(t *testing.T) {
	d := serve(t)
	l := d.Put(t, stage.FileOf("report.pdf", stage.Noise(99, 10)))[0]
	var views []pageView
	var want []int // requests
	for _, c := range []struct {
		status   int
		state    string
		requests int
	}{{403, "wrong", 2}, {404, "ready", 4}, {410, "ready", 4}, {503, "ready", 4}, {429, "ready", 2}, {500, "ready", 2}} {
		views, want = append(views, pageView{URL: l.URL, State: c.state, Share: c.status, Device: "phone", Locale: "en-GB"}), append(want, c.requests)
	}
	for i, saw := range lookAt(t, views) {
		if saw.Error != "" || saw.Status != 200 || len(saw.Requests) != want[i] || !strings.Contains(saw.Text, "Download") {
			t.Errorf("share refused with %d: %s, %d requests, want %d; the page says %q", views[i].Share, saw.Error, len(saw.Requests), want[i], saw.Text)
		}
	}
}

// The page is in the language that the browser asks for.
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

// A file's page draws an icon for the kind of file, which depends on the ending of the name.
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
		if saw.Bytes >= maxPage || len(saw.Requests) != 2 || len(saw.Violations) > 0 || len(saw.Complaints) > 0 {
			t.Errorf("%s: %d bytes, requests %d, axe finds %q, complaints %q", kinds[i], saw.Bytes, len(saw.Requests), saw.Violations, saw.Complaints)
		}
	}
}

// The page shows files in a frame without origin. Their bytes decide how, and markup is never
// rendered.
func TestFilesAreShownInAFrameWithoutOrigin(t *testing.T) {
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

// wave is a WAV file: a second of silence.
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

// end destroys the key of an object, as at its end.
func end(t *testing.T, d *stage.Detach, l stage.Link) {
	t.Helper()
	keys, err := keyring.Open(filepath.Join(d.DataDir, "keys"))
	stage.Must(t, err)
	for _, name := range d.Files(t, "ledger/*.jsonl") {
		line := regexp.MustCompile(l.CID + `","core":"(\w+)"`).FindStringSubmatch(stage.ReadFile(t, filepath.Join(d.DataDir, name)))
		if line == nil {
			continue
		}
		core, err := cid.Parse(line[1])
		stage.Must(t, err)
		stage.Must(t, keys.Destroy(crypto.Epoch(strings.TrimSuffix(filepath.Base(name), ".jsonl")), core))
		return
	}
	t.Fatal("the object is not in the ledger")
}
