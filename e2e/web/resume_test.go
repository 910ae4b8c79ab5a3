package web

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// A download breaks off in the middle, once because the connection is reset and once because the
// gateway dies and is started again. The browser resumes it, by itself or from its list of
// downloads, and only the rest is sent again.
func TestDownloadResumesInBrowser(t *testing.T) {
	d := serve(t)
	file := stage.FileOf("broken in the middle.bin", stage.Noise(77, 24<<20+5))
	l := d.Put(t, file)[0]
	for name, happens := range map[string]func(*stage.Conn) stage.Fate{
		"reset": func(*stage.Conn) stage.Fate { return stage.Reset },
		"restarted": func(*stage.Conn) stage.Fate {
			d.Kill(t)
			d.Start(t)
			return stage.Cut
		},
	} {
		for _, device := range []string{"desktop", "phone"} {
			t.Run(name+"/"+device, func(t *testing.T) {
				var broke atomic.Bool
				w := wireTo(t, d)
				w.SetOnEach(stage.Back, stage.Trap{After: int64(len(file.Content) / 2), Then: func(c *stage.Conn) stage.Fate {
					if broke.Swap(true) {
						return stage.GoesOn
					}
					return happens(c)
				}})
				shot := stage.Artifact(t, "resume-"+name+"-"+device+".png")
				var saw []struct {
					Shown                       bool
					Broken, File, SHA256, Error string
					Besides, Complaints         []string
				}
				stage.Node(t, "resume.mjs", []map[string]string{{"link": through(w, l), "name": file.Name, "device": device, "screenshot": shot}}, &saw)
				s := saw[0]
				if s.Error != "" || !s.Shown || len(s.Complaints) > 0 || !broke.Load() {
					t.Fatalf("in the browser: %s, name shown %v, broke off %v, complaints %q", s.Error, s.Shown, broke.Load(), s.Complaints)
				}
				if s.File != file.Name || s.SHA256 != file.SHA256() || len(s.Besides) > 0 {
					t.Errorf("saved as %q with SHA-256 %s, besides %q; want %q with %s alone", s.File, s.SHA256, s.Besides, file.Name, file.SHA256())
				}
				if name == "reset" && !strings.Contains(s.Broken, "Network error") {
					t.Errorf("the list of downloads says %q of a connection that was reset", s.Broken)
				}
				// Half of the file and then all of it would be this much. Bytes under way when the
				// download breaks off are sent again.
				if w.Came(stage.Back) >= int64(len(file.Content))*3/2 {
					t.Errorf("%d bytes were sent for a file of %d", w.Came(stage.Back), len(file.Content))
				}
				t.Logf("%d bytes were sent for %d; the list said %q", w.Came(stage.Back), len(file.Content), s.Broken)
			})
		}
	}
}
