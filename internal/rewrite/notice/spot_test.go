package notice

import (
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/measure"
	"github.com/nkirchhoffer/detach-mta/internal/test/race"
)

// The mark § shows where the notice belongs: below the sender's text.
func TestPlainTextHasTheNoticeBelowTheSendersWords(t *testing.T) {
	for name, marked := range map[string]string{
		"empty":                   "§",
		"no line end":             "Hi§",
		"signature":               "Hi\n\n§-- \nAnn\n",
		"dashes, no signature":    "Hi\n--\nAnn\n§",
		"signature only":          "-- \nAnn\n§",
		"too long for signature":  "Hi\n-- \n" + strings.Repeat("x\n", 40) + "§",
		"quoted, top posted":      "Hi\n\n§> old\n> older\n",
		"attribution":             "Hi\n\n§On 1 May 2026, Bob wrote:\n\n> old\n",
		"attribution, two lines":  "Hi\n\n§On 1 May 2026, Bob\n<bob@example.net> wrote:\n> old\n",
		"attribution, German":     "Hi\n\n§Am 01.05.2026 um 9:00 schrieb Bob:\n> old\n",
		"attribution, French":     "Hi\n\n§Le 01/05/2026 à 09:00, Bob a écrit :\n> old\n",
		"attribution, Spanish":    "Hi\n\n§El vie, 1 may 2026, Bob escribió:\n> old\n",
		"attribution, unknown":    "Hi\n\n§Bob <bob@example.net> skrev:\n> old\n",
		"own text above a quote":  "Look at what he said:\n\n§> old\n",
		"signature above a quote": "Hi\n§-- \nAnn\n\nOn 1 May 2026, Bob wrote:\n> old\n",
		"bottom posted":           "On 1 May 2026, Bob wrote:\n> old\n\nHi\n§",
		"between the lines":       "Hi\n> a\nb\n> c\n§",
		"list footer":             "Hi\n\n§> old\n_______________________________________________\nlist\n",
		"unquoted below":          "Hi\n\nOn 1 May 2026, Bob wrote:\nold\n§",
		"Outlook":                 "Hi\n\n§-----Original Message-----\nFrom: Bob\nold\n",
		"Outlook, French":         "Hi\r\n\r\n§De : Bob\r\nEnvoyé : lundi\r\nÀ : Ann\r\nObjet : x\r\n\r\nold\r\n",
		"Outlook, German rule":    "Hi\n§________________________________\nVon: Bob\nGesendet: Montag\nAn: Ann\n\nold\n",
		"From: in the text":       "Hi\n\nFrom: here you see it.\nBye\n§",
		"forwarded without words": "\n---------- Forwarded message ---------\nFrom: Bob\n\nold\n§",
		"mbox":                    "Hi\n>From here on\nBye\n§",
	} {
		checkSpot(t, name, marked, func(text string) spot { return plainSpot(text, Bottom, false) })
	}
}

// checkSpot wants find to find the mark's place in the text without the mark.
func checkSpot(t *testing.T, name, marked string, find func(text string) spot) {
	t.Helper()
	text := strings.ReplaceAll(marked, "§", "")
	if got := find(text).at; got != strings.Index(marked, "§") {
		t.Errorf("%s: got %q§%q, want %q", name, text[:got], text[got:], marked)
	}
}

func TestHTMLHasTheNoticeBelowTheSendersWords(t *testing.T) {
	for name, marked := range map[string]string{
		"empty":               "§",
		"no tags":             "hi§",
		"upper case":          "<HTML><BODY>hi§</BODY></HTML>",
		"html end only":       "<html>hi§</html>",
		"comment":             "<body>hi<!-- </body> -->§",
		"open comment":        "<body>hi§<!-- </body>",
		"script":              "<body>hi<script>'</body>'</script>§",
		"open style":          "<body>hi§<style></body>",
		"open tag":            "<body>hi§<a href=",
		"open textarea":       "hi§<textarea>",
		"> in an attribute":   `<body><p title="</body>">hi</p>§</body>`,
		"tables":              "<table><tr><td>hi</td></tr></table>§",
		"Gmail":               `<div>hi</div>§<div class="gmail_quote">old<div>x</div></div>`,
		"Gmail, below":        `<div class="gmail_quote">old<div>x</div></div><div>hi</div>§`,
		"Gmail, between":      `hi<div class="gmail_quote">old</div>so<div class="gmail_quote">old</div>§`,
		"cite":                `hi§<blockquote type=CITE>old</blockquote>&nbsp;<br>`,
		"own blockquote":      `hi<blockquote>quoted words</blockquote>§`,
		"Outlook on the web":  `<body>hi§<div id="appendonsend"></div><div id=divRplyFwdMsg>From</div>old</body>`,
		"Word":                `<body>hi§<div style='border:none;border-top:solid #E1E1E1 1.0pt'>From</div>old</body>`,
		"cite in a table":     `<table><tr><td>hi<blockquote type=cite>old</blockquote></td></tr></table>§`,
		"Thunderbird":         `hi§<div class="moz-cite-prefix">Bob:</div><blockquote type=cite>old</blockquote>`,
		"signature":           `hi§<div class="moz-signature">-- <br>Ann</div></body>`,
		"signature, then old": `hi§<div class="gmail_signature">Ann</div><div class="gmail_quote">old</div>`,
		"signature below":     `<blockquote type=cite>old</blockquote>hi§<pre class="moz-signature">Ann</pre>`,
		"forwarded only":      `<div class="gmail_quote">old</div>§`,
		"picture only":        `<img src=a>§<blockquote type=cite>old</blockquote>`,
	} {
		checkSpot(t, name, marked, func(text string) spot { return htmlSpot(text, Bottom) })
	}
	for name, marked := range map[string]string{
		"body":      `<html><head><title>x</title></head><body class="a>b">§hi</body></html>`,
		"no body":   "<!doctype html><html><head><style>p{}</style></head>\n§<p>hi</p></html>",
		"only text": "§hi",
		"mark":      byteOrderMark + "§hi",
	} {
		checkSpot(t, "top, "+name, marked, func(text string) spot { return htmlSpot(text, Top) })
	}
}

// Searching the longest text takes linear time, whatever its lines are.
func TestWorstTextsAreLinear(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector makes the measured times meaningless")
	}
	check := func(piece string, search func()) {
		start := measure.CPU()
		search()
		took := measure.CPU() - start
		if t.Logf("%q: %v", piece, took); took > 2*time.Second {
			t.Errorf("%q: took %v, want under 2 s", piece, took)
		}
	}
	for _, line := range []string{"From: a\n", "\nFrom: a\nTo: b\n", "\n", "> x\ny\n", "On 1\n", "--------- x\n", "-- \n", "Attached is a line of usual length, as people write them.\n"} {
		text := strings.Repeat(line, min(MaxText/len(line), maxReplyLines/strings.Count(line, "\n")))
		check(line, func() { plainSpot(text, Bottom, true); detectLanguage(text) })
	}
	for _, piece := range []string{"<", "<!--", "<a ", "<a b=c ", "</body>", "<table>", "<div class=gmail_quote>", "x&nbsp;"} {
		text := strings.Repeat(piece, MaxText/len(piece))
		check(piece, func() { htmlSpot(text, Bottom) })
	}
}
