package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/internal/faults"
)

// put stores files without a mail server, and returns their links.
func (d *detach) put(t *testing.T, files ...attachment) []link {
	t.Helper()
	python := startDecoder(t)
	var found []link
	for _, f := range files {
		keepSecret(nameSecret, f.name)
		mail := head("a file") + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhere\r\n--b\r\n" + f.header +
			"Content-Transfer-Encoding: base64\r\n\r\n" + base64Lines(f.content) + "--b--\r\n"
		out := d.pipe(t, "filter", []byte(mail))
		links := python.parse(t, out).links()
		if len(links) != 1 {
			t.Fatalf("%d links for %s in %.500s", len(links), f.name, out)
		}
		found = append(found, links[0])
	}
	return found
}

// damage flips a bit in what the embedded store holds of a file, so many bytes before its end.
func (d *detach) damage(t *testing.T, l link, fromEnd int) {
	t.Helper()
	path := filepath.Join(d.dataDir, "objects", l.cid+".car")
	car, err := os.ReadFile(path)
	must(t, err)
	car[len(car)-fromEnd] ^= 1
	must(t, os.WriteFile(path, car, 0o600))
}

func fileOf(name string, content []byte) attachment {
	return attachment{name, "Content-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n", content}
}

// With the embedded store and with kubo, in both sizes of screen: what the browser has decrypted is the file, and the server
// was never told the key. What is damaged in storage ends in a failed download, whoever decrypts.
func TestDecryptInBrowser(t *testing.T) {
	onEachStore(t, func(t *testing.T, s store) {
		d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, kubo: s.api(), policy: "min_size = \"1\"\nrestore = false"})
		files := []attachment{
			fileOf("one byte.bin", noise(71, 1)), fileOf("one leaf.bin", noise(72, 1<<20)), fileOf("one more.bin", noise(73, 1<<20+1)),
			fileOf("many leaves.bin", noise(74, 24<<20+7)),
		}
		links := d.put(t, files...)
		var visits []visit
		for i, l := range links {
			device := []string{"desktop", "phone"}[i%2]
			visits = append(visits, visit{Link: l.url, Name: files[i].name, Device: device, JavaScript: true, Here: true, fragment: l.fragment, sha256: files[i].sha256()})
		}
		visits[0].Screenshot, visits[1].Screenshot = s.name()+"-here-desktop.png", s.name()+"-here-phone.png"
		for i, saw := range browse(t, visits) {
			for _, r := range saw.Requests {
				if !strings.HasPrefix(r, "GET ") {
					t.Errorf("%s: the page sent %s: nothing is to be posted", files[i].name, r[:4])
				}
			}
			if !strings.Contains(saw.After, "Every part of the file was checked") {
				t.Errorf("%s: the page says %q", files[i].name, saw.After)
			}
		}
	})
}

// When the browser ends the worker in the middle, the page notices and says so in the reader's language, whatever has come of the
// download: the worker itself can say nothing any more.
func TestPageNoticesThatItsWorkerIsGone(t *testing.T) {
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	l := d.put(t, fileOf("interrupted.bin", noise(76, 8<<20)))[0]
	held := startTap(t, d.url, 4<<20, func() bool {
		<-t.Context().Done()
		return false
	})
	says := map[string]string{
		"en-GB": "The browser has ended the decryption", "fr-FR": "Le navigateur a mis fin au déchiffrement",
		"de-DE": "Der Browser hat das Entschlüsseln beendet", "es-ES": "El navegador ha puesto fin al descifrado",
	}
	var told []map[string]string
	for locale := range says {
		shot, err := filepath.Abs(filepath.Join(artefacts, "worker-gone-"+locale+".png"))
		must(t, err)
		told = append(told, map[string]string{"link": held.through(l), "locale": locale, "screenshot": shot})
	}
	var saw []struct {
		Before, After, Failure, Error string
		Complaints                    []string
	}
	node(t, "gone.mjs", told, &saw)
	for i, s := range saw {
		locale := told[i]["locale"]
		if s.Error != "" || len(s.Complaints) > 0 {
			t.Errorf("%s: %s, complaints %q, after %q", locale, s.Error, s.Complaints, s.Before)
		}
		if !strings.HasPrefix(s.After, says[locale]) {
			t.Errorf("%s: the page says %q, want %q", locale, s.After, says[locale])
		}
		if s.Failure == "" {
			t.Errorf("%s: what was saved is taken for the whole file", locale)
		}
	}
}

func TestDamagedFailsInTheBrowser(t *testing.T) {
	faults.Covers(t, 86)
	d := serve(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	file := fileOf("damaged.bin", noise(75, 6<<20))
	l := d.put(t, file)[0]
	d.damage(t, l, 2<<20)
	visits := []visit{
		{Link: l.url, Name: file.name, Device: "desktop", JavaScript: true, Here: true, fragment: l.fragment, Screenshot: "damaged-here.png"},
		{Link: l.url, Name: file.name, Device: "desktop", JavaScript: true, fragment: l.fragment, Screenshot: "damaged.png"},
	}
	saw := browse(t, visits)
	if !strings.Contains(saw[0].After, "That failed") {
		t.Errorf("the page says %q", saw[0].After)
	}
}
