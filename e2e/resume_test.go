package e2e

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// A download breaks off in the middle, once because the connection is reset and once because the gateway dies and is started anew.
// The browser's own list of downloads goes on with it, or the browser by itself, and only the rest is sent again.
func TestDownloadResumesInBrowser(t *testing.T) {
	d := startMortal(t, setup{proxy: servers.FreeAddr(t), reinject: servers.NewMailbox(t).Addr, policy: "min_size = \"1\"\nrestore = false"})
	file := fileOf("broken in the middle.bin", noise(77, 24<<20+5))
	l := d.put(t, file)[0]
	for name, happens := range map[string]func() (goesOn bool){
		"reset": func() bool { return false },
		"restarted": func() bool {
			d.kill(t)
			d.start(t)
			return true // to the end that the dead gateway's connection has come to
		},
	} {
		for _, device := range []string{"desktop", "phone"} {
			t.Run(name+"/"+device, func(t *testing.T) {
				var broke atomic.Bool
				p := startTap(t, d.url, int64(len(file.content)/2), func() bool { return broke.Swap(true) || happens() })
				shot, err := filepath.Abs(filepath.Join(artefacts, "resume-"+name+"-"+device+".png"))
				must(t, err)
				var saw []struct {
					Shown                       bool
					Broken, File, SHA256, Error string
					Besides, Complaints         []string
				}
				node(t, "resume.mjs", []map[string]string{{"link": p.through(l), "name": file.name, "device": device, "screenshot": shot}}, &saw)
				s := saw[0]
				if s.Error != "" || !s.Shown || len(s.Complaints) > 0 || !broke.Load() {
					t.Fatalf("in the browser: %s, name shown %v, broke off %v, complaints %q", s.Error, s.Shown, broke.Load(), s.Complaints)
				}
				if s.File != file.name || s.SHA256 != file.sha256() || len(s.Besides) > 0 {
					t.Errorf("saved as %q with SHA-256 %s, besides %q; want %q with %s alone", s.File, s.SHA256, s.Besides, file.name, file.sha256())
				}
				if name == "reset" && !strings.Contains(s.Broken, "Network error") {
					t.Errorf("the list of downloads says %q of a connection that was reset", s.Broken)
				}
				// Half of it and then all would be this much. What was on its way when it broke off is sent again.
				if p.brought.Load() >= int64(len(file.content))*3/2 {
					t.Errorf("%d bytes were sent for a file of %d", p.brought.Load(), len(file.content))
				}
				t.Logf("%d bytes were sent for %d; the list said %q", p.brought.Load(), len(file.content), s.Broken)
			})
		}
	}
}
