package web

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// damage flips a bit of a file in the embedded store, at a distance from its end.
func damage(t *testing.T, d *stage.Detach, l stage.Link, fromEnd int) {
	t.Helper()
	path := filepath.Join(d.DataDir, "objects", l.CID+".car")
	car := []byte(stage.ReadFile(t, path))
	car[len(car)-fromEnd] ^= 1
	stage.Must(t, os.WriteFile(path, car, 0o600))
}

// The browser decrypts the file, and the server never gets the key: with the embedded store and
// with kubo, on both sizes of screen.
func TestDecryptInBrowser(t *testing.T) {
	stage.OnEachStore(t, func(t *testing.T, s stage.Store) {
		d := stage.Serve(t, stage.Setup{Kubo: s.API(), Policy: files})
		files := []stage.Attachment{
			stage.FileOf("one byte.bin", stage.Noise(71, 1)), stage.FileOf("one leaf.bin", stage.Noise(72, 1<<20)), stage.FileOf("one more.bin", stage.Noise(73, 1<<20+1)),
			stage.FileOf("many leaves.bin", stage.Noise(74, 24<<20+7)),
		}
		var visits []stage.Visit
		for i, l := range d.Put(t, files...) {
			v := l.Visit(files[i].Name, files[i].SHA256())
			v.Device, v.Here = []string{"desktop", "phone"}[i%2], true
			visits = append(visits, v)
		}
		visits[0].Screenshot, visits[1].Screenshot = s.Name()+"-here-desktop.png", s.Name()+"-here-phone.png"
		for i, saw := range stage.Browse(t, visits) {
			for _, r := range saw.Requests {
				if !strings.HasPrefix(r, "GET ") {
					t.Errorf("%s: the page sent %s, want GET only", files[i].Name, r[:4])
				}
			}
			if !strings.Contains(saw.After, "Every part of the file was checked") {
				t.Errorf("%s: the page says %q", files[i].Name, saw.After)
			}
		}
	})
}

// When the browser ends the worker in the middle, the page notices and says so in the reader's
// language.
func TestPageNoticesThatItsWorkerIsGone(t *testing.T) {
	d := serve(t)
	l := d.Put(t, stage.FileOf("interrupted.bin", stage.Noise(76, 8<<20)))[0]
	held := wireTo(t, d)
	held.SetOnEach(stage.Back, stage.Trap{After: 4 << 20, Then: func(c *stage.Conn) stage.Fate {
		stage.Hold(c, t.Context().Done())
		return stage.Reset
	}})
	says := map[string]string{
		"en-GB": "The browser has ended the decryption", "fr-FR": "Le navigateur a mis fin au déchiffrement",
		"de-DE": "Der Browser hat das Entschlüsseln beendet", "es-ES": "El navegador ha puesto fin al descifrado",
	}
	var told []map[string]string
	for locale := range says {
		shot := stage.Artifact(t, "worker-gone-"+locale+".png")
		told = append(told, map[string]string{"link": through(held, l), "locale": locale, "screenshot": shot})
	}
	var saw []struct {
		Before, After, Failure, Error string
		Complaints                    []string
	}
	stage.Node(t, "gone.mjs", told, &saw)
	for i, s := range saw {
		locale := told[i]["locale"]
		if s.Error != "" || len(s.Complaints) > 0 {
			t.Errorf("%s: %s, complaints %q, after %q", locale, s.Error, s.Complaints, s.Before)
		}
		if !strings.HasPrefix(s.After, says[locale]) {
			t.Errorf("%s: the page says %q, want %q", locale, s.After, says[locale])
		}
		if s.Failure == "" {
			t.Errorf("%s: the browser takes the saved part for the whole file", locale)
		}
	}
}

// The download of a damaged file fails, whether the browser decrypts or the gateway.
func TestDamagedFileFailsInTheBrowser(t *testing.T) {
	faults.Covers(t, 86)
	d := serve(t)
	file := stage.FileOf("damaged.bin", stage.Noise(75, 6<<20))
	l := d.Put(t, file)[0]
	damage(t, d, l, 2<<20)
	here, plain := l.Visit(file.Name, ""), l.Visit(file.Name, "")
	here.Here, here.Screenshot, plain.Screenshot = true, "damaged-here.png", "damaged.png"
	saw := stage.Browse(t, []stage.Visit{here, plain})
	if !strings.Contains(saw[0].After, "That failed") {
		t.Errorf("the page says %q", saw[0].After)
	}
}
