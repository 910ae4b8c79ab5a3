package mail

import (
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// If reinject leads back to the Postfix in front, or if the Postfix behind has smtpd_proxy_filter
// too, a mail costs at most three sessions. The client keeps the mail, and both servers stay free.
func TestLoopThroughPostfixCostsFewSessions(t *testing.T) {
	faults.Covers(t, 36)
	for name, main := range map[string]string{
		"reinject to the front":                     "",
		"the Postfix behind has the filter as well": "smtpd_authorized_xforward_hosts = 127.0.0.0/8\n",
	} {
		t.Run(name, func(t *testing.T) {
			box, filter := servers.NewMailbox(t), servers.FreeAddr(t)
			pf := stage.StartPostfix(t, servers.PostfixConfig{Filter: filter, Destination: box.Addr, ForbidBareNewline: "normalize", Main: main})
			d := stage.Serve(t, stage.Setup{Listen: filter, Reinject: pf.Front})
			if reply := servers.Send(t, pf.Front, "", stage.Message(stage.TextAndPDF)); !strings.HasPrefix(reply, "451 4.4.6 ") && !strings.HasPrefix(reply, "451 4.3.0 ") {
				t.Errorf("the client got %q, want 451", reply)
			}
			m := sessionsTotal.FindStringSubmatch(d.Ask(t, "/metrics"))
			t.Logf("%q sessions", m)
			if m == nil || len(m[1]) > 1 || m[1] > "3" {
				t.Errorf("one mail made this many sessions: %q", m)
			}
			if log := d.Log(t); !strings.Contains(log, "leads back") {
				t.Errorf("the log does not name the loop:\n%s", stage.LastLines(log, 10))
			}
		})
	}
}
