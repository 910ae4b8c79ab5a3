package mail

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// maxWorse is how many points rspamd may give a rewritten mail above the original. It rejects at
// 15, and marks as spam at 6.
const maxWorse = 0.3

// rspamd's stock rules find a rewritten mail no worse than the original, whatever its texts are.
func TestRspamdLikesRewrittenMail(t *testing.T) {
	faults.Covers(t, 108)
	rspamd := servers.StartRspamd(t, servers.RspamdConfig{
		DNS: servers.StartDNS(t, servers.Zone("senders.example TXT v=spf1 ip4:"+servers.Outsider+" -all")),
	})
	mails := map[string]string{
		"short text":              lettered(text("plain", "7bit", "Here it is.\r\n"), "report.pdf"),
		"two files":               lettered(text("plain", "7bit", english), "report.pdf", "Minutes of the meeting.pdf"),
		"short text, eight files": lettered(text("plain", "7bit", "Hi\r\n"), "1.pdf", "2.pdf", "3.pdf", "4.pdf", "5.pdf", "6.pdf", "7.pdf", "8.pdf"),
		"text above and below":    lettered(text("plain", "quoted-printable", german) + "--mixed\r\n" + file("report.pdf") + "--mixed\r\n" + text("plain", "7bit", "Sent from my iPhone\r\n")),
		"empty text":              lettered(text("plain", "7bit", "\r\n"), "report.pdf"),
		"no text":                 lettered("", "report.pdf"),
		"no text, two files":      lettered("", "report.pdf", "plan.pdf"),
		"the file is the mail":    stage.Head("the annual report") + file("report.pdf"),
		"German, quoted":          lettered(text("plain", "quoted-printable", german), "Übersicht.pdf"),
		"German, base64":          lettered(text("plain", "base64", german), "Übersicht.pdf"),
		"German, 8bit":            lettered(text("plain", "8bit", german), "Bericht.pdf", "Plan.pdf"),
		"alternative":             lettered(alternative("quoted-printable", english), "report.pdf"),
		"alternative, German":     lettered(alternative("base64", german), "Übersicht.pdf", "Plan.pdf"),
		"short alternative":       lettered(alternative("7bit", "Hi\r\n"), "report.pdf", "plan.pdf", "budget.pdf"),
		"HTML only":               lettered(text("html", "7bit", "<p>Here it is.</p>\r\n"), "report.pdf", "plan.pdf"),
		"names like hosts":        lettered(alternative("7bit", english), "film.mov", "www.example.com.zip", "setup.sh"),
		"a host and an address":   lettered(text("html", "7bit", "<p>Hi</p>"), "example.com", "ann@example.com"),
	}
	for _, notice := range []string{"top", "bottom"} {
		policy := fmt.Sprintf("min_size = \"1\"\nnotice = %q", notice)
		d := stage.Configure(t, stage.Setup{URL: "https://files.example.org", Policy: policy, Keys: `retention = "30d"`})
		for _, name := range slices.Sorted(maps.Keys(mails)) {
			t.Run(notice+"/"+name, func(t *testing.T) {
				mail := mails[name]
				rewritten := string(d.Pipe(t, "filter", strings.NewReader(mail)))
				if len(stage.LinksIn(rewritten)) == 0 {
					t.Fatalf("nothing was detached:\n%s", rewritten)
				}
				before, after := rspamd.Check(t, stage.Message(mail)), rspamd.Check(t, stage.Message(rewritten))
				if _, phishing := after.Symbols["PHISHING"]; phishing || after.Score > before.Score+maxWorse {
					t.Errorf("score %.2f, want at most %.2f\n%s", after.Score, before.Score+maxWorse, rewritten)
				}
				t.Logf("%+.2f: %.2f became %.2f; %s", after.Score-before.Score, before.Score, after.Score, difference(before, after))
			})
		}
	}
}

const (
	english = "Dear Wilhelmina,\r\n\r\nattached is the report that you asked for. The figures are final.\r\n\r\nRegards,\r\nBartholomew\r\n"
	german  = "Liebe Wilhelmina,\r\n\r\nanbei der Bericht für die Sitzung. Die Zahlen sind noch nicht geprüft.\r\n\r\nViele Grüße\r\nBartholomew\r\n"
)

// lettered returns a mail with a text, which may be empty, and files.
func lettered(text string, files ...string) string {
	mail := stage.Head("the annual report") + "Content-Type: multipart/mixed; boundary=mixed\r\n\r\n"
	if text != "" {
		mail += "--mixed\r\n" + text
	}
	for _, name := range files {
		mail += "--mixed\r\n" + file(name)
	}
	return mail + "--mixed--\r\n"
}

// file returns a PDF as a part of a mail.
func file(name string) string {
	return stage.Attachment{
		Header:  "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''" + url.PathEscape(name) + "\r\n",
		Content: append([]byte("%PDF-1.7\n"), stage.Noise(4, 50_000)...),
	}.Part()
}

// text returns a text as a part of a mail.
func text(subtype, encoding, content string) string {
	header := "Content-Type: text/" + subtype + "; charset=utf-8\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n"
	switch encoding {
	case "base64":
		content = stage.Base64Lines([]byte(content))
	case "quoted-printable":
		content = string(transfer.EncodeQuoted([]byte(content), "\r\n"))
	}
	return header + content + "\r\n"
}

// alternative returns a text and the same in HTML.
func alternative(encoding, content string) string {
	return "Content-Type: multipart/alternative; boundary=alternative\r\n\r\n--alternative\r\n" + text("plain", encoding, content) +
		"--alternative\r\n" + text("html", encoding, "<html><body><p>"+strings.ReplaceAll(content, "\r\n", "<br>\r\n")+"</p></body></html>\r\n") +
		"--alternative--\r\n"
}

// difference lists the symbols whose scores differ.
func difference(before, after servers.Verdict) string {
	var list []string
	for name, score := range after.Symbols {
		if was, ok := before.Symbols[name]; score != was {
			list = append(list, fmt.Sprintf("%s %.2f (%.2f, %v)", name, score, was, ok))
		}
	}
	for name, was := range before.Symbols {
		if _, ok := after.Symbols[name]; !ok && was != 0 {
			list = append(list, fmt.Sprintf("no %s (%.2f)", name, was))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
