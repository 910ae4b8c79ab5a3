package proxy

import (
	"strings"
	"sync"
	"testing"
)

func TestObserve(t *testing.T) {
	loop := strings.Repeat("Received: x\r\n", 51)
	for name, c := range map[string]struct {
		mail  string
		onBad OnFailure
		mood  mood
		dot   string
		want  Outcome
	}{
		"detached":         {mail: attachmentMail(1000), want: Outcome{Detached, 250, 1, 1000}},
		"nothing to do":    {mail: plainMail, want: Outcome{Unchanged, 250, 0, 0}},
		"nothing found":    {mail: strings.Replace(attachmentMail(0), "\r\n--b\r\nContent-Type: app", "\r\n", 1), want: Outcome{Unchanged, 250, 0, 0}},
		"the original":     {mail: attachmentMail(1000), onBad: Deliver, mood: mood{failure: errStoreDown}, want: Outcome{Original, 250, 0, 0}},
		"refused":          {mail: attachmentMail(1000), dot: "550 5.7.1 spam", want: Outcome{Refused, 550, 0, 0}},
		"put off":          {mail: plainMail, dot: "450 4.7.1 greylisted", want: Outcome{Refused, 450, 0, 0}},
		"rejected":         {mail: loop + plainMail, want: Outcome{Rejected, 554, 0, 0}},
		"store down":       {mail: attachmentMail(1000), mood: mood{failure: errStoreDown}, want: Outcome{Deferred, 451, 0, 0}},
		"nobody knows":     {mail: plainMail, dot: hangUp, want: Outcome{Deferred, 451, 0, 0}},
		"the client left":  {mail: "", want: Outcome{Abandoned, 421, 0, 0}},
		"links not served": {mail: attachmentMail(1000), mood: mood{commit: errStoreDown}, want: Outcome{Deferred, 451, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var got []Outcome
			r := newRig(t, func(cfg *Config) {
				cfg.OnFailure = c.onBad
				cfg.Observe = func(o Outcome) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, o)
				}
			})
			r.store.set(c.mood)
			if c.dot != "" {
				r.hop.script(".", c.dot)
			}
			cl := r.envelope()
			if c.mail == "" {
				cl.want("DATA", "354")
				cl.send(halfMail)
				cl.Close()
			} else {
				cl.data(c.mail, "")
			}
			if err := r.server.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
