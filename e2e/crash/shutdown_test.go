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

// SIGTERM while mails are under way: each is finished or refused, none is lost or delivered in
// part, and the next detach takes the address immediately.
func TestMailsUnderWaySurviveSIGTERM(t *testing.T) {
	faults.Covers(t, 24)
	box := servers.NewMailbox(t)
	d := stage.Configure(t, stage.Setup{Reinject: box.Addr})
	d.Start(t)
	idle, err := servers.Dial(d.Proxy, "")
	stage.Must(t, err)
	defer idle.Close()
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
			if reply, err := c.Reply(); err != nil || !strings.HasPrefix(reply, "250 ") {
				t.Errorf("mail %d got %q, %v", i, reply, err)
			}
			if reply, err := c.Cmd("NOOP"); err == nil && !strings.HasPrefix(reply, "421 ") {
				t.Errorf("after its mail client %d got %q, want 421", i, reply)
			}
		})
	}
	half.Wait()
	d.Signal(t, syscall.SIGTERM)
	if reply, err := idle.Reply(); err != nil || !strings.HasPrefix(reply, "421 4.3.2 ") {
		t.Errorf("an idle client got %q, %v, want 421", reply, err)
	}
	if c, err := servers.Dial(d.Proxy, ""); err == nil {
		c.Close()
		t.Error("a new client is served after SIGTERM")
	}
	close(goOn)
	all.Wait()
	if err := d.Wait(); err != nil {
		t.Errorf("detach serve ended with %v", err)
	}
	if got := len(stage.ByNumber(t, box)); got != mails {
		t.Errorf("%d mails were delivered, want %d", got, mails)
	}
	d.Start(t)
	stage.Gets(t, d.Proxy, "250", stage.TextAndPDF)
}
