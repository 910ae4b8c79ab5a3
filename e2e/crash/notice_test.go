package crash

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// silent is the setting of docs/operations.md; Control has Postfix's own.
const silent = `
{{front}} inet n - n - - smtpd
  -o smtpd_proxy_filter={{filter}}
  -o notify_classes=resource
{{control}} inet n - n - - smtpd
  -o smtpd_proxy_filter={{filter}}
{{after}} inet n - n - - smtpd
  -o smtpd_proxy_filter=
`

// While Detach is down, Postfix sends the postmaster a notice of every session, unless
// notify_classes says otherwise. A mail that Detach itself defers makes none.
func TestNoticesWhileDetachIsDown(t *testing.T) {
	box, listen := servers.NewMailbox(t), servers.FreeAddr(t)
	pf := stage.StartPostfix(t, servers.PostfixConfig{Filter: listen, Destination: box.Addr, Master: silent,
		Main: "error_notice_recipient = " + stage.Recipient + "\n"})
	for range 3 {
		stage.Gets(t, pf.Front, "451", stage.TextAndPDF)
	}
	stage.Gets(t, pf.Control, "451", stage.TextAndPDF)
	servers.Eventually(t, servers.Patience, "the notice of one session", func() bool { return len(box.Mails()) > 0 })
	if mails := box.Mails(); len(mails) != 1 || !bytes.Contains(mails[0].Data, []byte("queue file write error")) {
		t.Errorf("%d notices, want the one of Postfix's own setting: %q", len(mails), mails[0].Data)
	}

	d := stage.Configure(t, stage.Setup{Listen: listen, Reinject: pf.After})
	d.Env = append(d.Env, "DETACH_STORE_MIN_FREE=4000000TiB")
	d.Start(t)
	stage.Gets(t, pf.Control, "451", stage.TextAndPDF)
	stage.Gets(t, pf.Control, "250", stage.Untouchable["plain text"])
	pf.WaitEmpty(servers.Patience)
	if mails := box.Mails(); len(mails) != 2 || strings.Contains(string(mails[1].Data), "451") {
		t.Errorf("%d mails, want the plain one and no more notices", len(mails))
	}
}
