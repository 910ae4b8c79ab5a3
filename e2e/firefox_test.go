package e2e

import (
	"bytes"
	"image"
	"image/png"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// Firefox downloads in both ways: by the button, and decrypting by itself, in a worker of another make.
func TestFirefox(t *testing.T) {
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	var visits []visit
	for i, way := range []struct{ device, name string }{
		{"desktop", "Grüße aus dem Hafen.bin"}, {"phone", "harbour.bin"}, {"desktop", "Grüße, hier entschlüsselt.bin"}, {"phone", "decrypted here.bin"},
	} {
		file := fileOf(way.name, noise(uint64(100+i), 9<<20+i))
		l := d.put(t, file)[0]
		visits = append(visits, visit{
			Link: l.url, Name: file.name, Device: way.device, JavaScript: true, Here: i >= 2, fragment: l.fragment, sha256: file.sha256(),
			Screenshot: "firefox-" + strings.TrimSuffix(file.name, ".bin") + ".png",
		})
	}
	for i, saw := range browse(t, visits, firefox) {
		if visits[i].Here && !strings.Contains(saw.After, "Every part of the file was checked") {
			t.Errorf("%s: the page says %q", visits[i].Name, saw.After)
		}
	}
}

// What TestEveryState holds in Chromium holds in Firefox, and a file is looked at in a frame that has no origin there too.
func TestPageInFirefox(t *testing.T) {
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 321, 7))))
	l := d.put(t, fileOf("picture.png", picture.Bytes()))[0]
	var views []pageView
	for _, device := range []string{"desktop", "phone", "narrow"} {
		shot, err := filepath.Abs(filepath.Join(artefacts, "firefox-"+device+".png"))
		must(t, err)
		views = append(views, pageView{URL: l.url, State: "ready", Device: device, Locale: "en-GB", Screenshot: shot})
	}
	saw := lookAt(t, append(views, pageView{URL: l.url, State: "ready", Device: "phone", Locale: "en-GB", View: true}), firefox)
	for i, v := range views {
		t.Run(v.Device, func(t *testing.T) { condition{"ready", l.url, "ready", "Download", 200, ""}.judge(t, saw[i], v) })
	}
	if viewed := saw[len(views)]; viewed.Viewed != "img 321" || viewed.Origin != "null" || viewed.Error != "" {
		t.Errorf("shown %q by the origin %q, %s: want the picture, by none", viewed.Viewed, viewed.Origin, viewed.Error)
	}
}

// Firefox keeps what a worker answers in memory until the download has ended, so it is not offered for large files there.
func TestDecryptInFirefoxUpToHalfAGigabyte(t *testing.T) {
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	var views []pageView
	for _, size := range []int64{512 << 20, 512<<20 + 1} {
		l, _ := d.putBig(t, size)
		views = append(views, pageView{URL: l.url, State: "ready", Device: "desktop", Locale: "en-GB"})
	}
	const offer = "Decrypt in this browser instead"
	for _, browser := range [][]string{nil, {firefox}} {
		for i, saw := range lookAt(t, views, browser...) {
			if want := i == 0 || browser == nil; saw.Error != "" || strings.Contains(saw.Text, offer) != want {
				t.Errorf("%s, file %d: offered is %v, want %v: %s", browser, i, !want, want, saw.Error)
			}
		}
	}
}
