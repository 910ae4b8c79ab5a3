package crash

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// SIGTERM while mails are under way: each mail is finished or refused, no mail is lost or delivered
// in part, and the next detach takes the address immediately.
func TestMailsUnderWaySurviveSIGTERM(t *testing.T) {
	faults.Covers(t, 24)
	d := stage.Serve(t, stage.Setup{})
	idle := servers.Connect(t, d.Proxy)
	const mails = 20
	var all, half sync.WaitGroup
	half.Add(mails)
	goOn := make(chan struct{})
	for i := range mails {
		all.Go(func() {
			m := stage.Numbered{Number: i, Pages: 40}
			c := stage.Begin(t, d.Proxy)
			defer c.Close()
			fmt.Fprint(c, m.Head(), strings.Repeat(stage.PageBase64, i*2))
			half.Done()
			<-goOn
			fmt.Fprint(c, strings.Repeat(stage.PageBase64, m.Pages-i*2), m.Tail(), ".\r\n")
			c.Want(t, "250")
			if reply, err := c.Cmd("NOOP"); err == nil && !strings.HasPrefix(reply, "421 ") {
				t.Errorf("after its mail client %d got %q, want 421", i, reply)
			}
		})
	}
	half.Wait()
	d.Signal(t, syscall.SIGTERM)
	idle.Want(t, "421 4.3.2")
	if c, err := servers.Dial(d.Proxy, ""); err == nil {
		c.Close()
		t.Error("a new client is served after SIGTERM")
	}
	close(goOn)
	all.Wait()
	if err := d.Wait(); err != nil {
		t.Errorf("detach serve ended with %v", err)
	}
	if got := len(stage.ByNumber(t, d.Box)); got != mails {
		t.Errorf("%d mails were delivered, want %d", got, mails)
	}
	d.Start(t)
	stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)
}
