package web

import (
	"bytes"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// Firefox downloads in both ways: by the button, and decrypting in its own worker.
func TestFirefoxDownloadsAndDecrypts(t *testing.T) {
	d := serve(t)
	var visits []stage.Visit
	for i, way := range []struct{ device, name string }{
		{"desktop", "Grüße aus dem Hafen.bin"}, {"phone", "harbour.bin"}, {"desktop", "Grüße, hier entschlüsselt.bin"}, {"phone", "decrypted here.bin"},
	} {
		file := stage.FileOf(way.name, stage.Noise(uint64(100+i), 9<<20+i))
		v := d.Put(t, file)[0].Visit(file.Name, file.SHA256())
		v.Device, v.Here, v.Screenshot = way.device, i >= 2, "firefox-"+strings.TrimSuffix(file.Name, ".bin")+".png"
		visits = append(visits, v)
	}
	for i, saw := range stage.Browse(t, visits, stage.Firefox) {
		if visits[i].Here && !strings.Contains(saw.After, "Every part of the file was checked") {
			t.Errorf("%s: the page says %q", visits[i].Name, saw.After)
		}
	}
}

// The ready page is as good in Firefox as in Chromium (TestEveryStateHasItsPage), and shows a file
// in a frame without origin.
func TestPageInFirefox(t *testing.T) {
	d := serve(t)
	var picture bytes.Buffer
	stage.Must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 321, 7))))
	l := d.Put(t, stage.FileOf("picture.png", picture.Bytes()))[0]
	var views []pageView
	for _, device := range []string{"desktop", "phone", "narrow"} {
		views = append(views, pageView{URL: l.URL, State: "ready", Device: device, Locale: "en-GB", Screenshot: "firefox-" + device + ".png"})
	}
	saw := lookAt(t, append(views, pageView{URL: l.URL, State: "ready", Device: "phone", Locale: "en-GB", View: true}), stage.Firefox)
	for i, v := range views {
		t.Run(v.Device, func(t *testing.T) { condition{"ready", l.URL, "ready", "Download", 200, ""}.judge(t, saw[i], v) })
	}
	if viewed := saw[len(views)]; viewed.Viewed != "img 321" || viewed.Origin != "null" || viewed.Error != "" {
		t.Errorf("shown %q by the origin %q, %s: want the picture, by none", viewed.Viewed, viewed.Origin, viewed.Error)
	}
}

// Firefox keeps a worker's answer in memory until the download has ended, so the page in Firefox
// does not offer to decrypt large files.
func TestDecryptInFirefoxUpToHalfAGigabyte(t *testing.T) {
	d := serve(t)
	var views []pageView
	for _, size := range []int64{512 << 20, 512<<20 + 1} {
		l, _ := d.PutBig(t, size)
		views = append(views, pageView{URL: l.URL, State: "ready", Device: "desktop", Locale: "en-GB"})
	}
	const offer = "Decrypt in this browser instead"
	for _, browser := range [][]string{nil, {stage.Firefox}} {
		for i, saw := range lookAt(t, views, browser...) {
			if want := i == 0 || browser == nil; saw.Error != "" || strings.Contains(saw.Text, offer) != want {
				t.Errorf("%s, file %d: offered is %v, want %v: %s", browser, i, !want, want, saw.Error)
			}
		}
	}
}
