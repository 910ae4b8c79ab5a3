package notice

import (
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
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
		"nested":               `<html><body dir="auto">§New<blockquote type="cite"><html><body class="x">old</body></html></blockquote></body></html>`,
		"words above the body": `<html>§Hi<body>there</body></html>`,
		"hidden":               `<body>§<div style="display:none">hi</div></body>`,
		"body":                 `<html><head><title>x</title></head><body class="a>b">§hi</body></html>`,
		"no body":              "<!doctype html><html><head><style>p{}</style></head>\n§<p>hi</p></html>",
		"only text":            "§hi",
		"mark":                 byteOrderMark + "§hi",
	} {
		checkSpot(t, "top, "+name, marked, func(text string) spot { return htmlSpot(text, Top) })
	}
}

// The notice is visible: browsers show it, and it is not in an older mail or a form. The mark §
// shows its place.
func TestHTMLHasTheNoticeWhereItIsSeen(t *testing.T) {
	faults.Covers(t, 70)
	for name, marked := range map[string]string{
		"nested documents":         `<body>New§<blockquote type="cite"><html><body>old</body></html></blockquote></body></html>`,
		"answer below":             `<blockquote type="cite"><html><body>old</body></html></blockquote>Hi§`,
		"text after the end":       `<html><body>hi§</body></html>-- <br>list footer`,
		"two documents":            `<html><body>hi</body></html><html><body>disclaimer§</body></html>`,
		"open select":              `<body>hi§<select><option>a</body></html>`,
		"open svg":                 `<body>hi§<svg><text>a</body></html>`,
		"open details":             `<body>hi§<details><summary>a</summary></body></html>`,
		"open button":              `<body>hi§<button>a</body></html>`,
		"open template":            `<body>hi§<template>a</body></html>`,
		"open noscript":            `<body>hi§<noscript>a</body></html>`,
		"open pre":                 `<body>hi§<pre>a</body></html>`,
		"closed again":             `<body>hi<svg><text>a</text></svg><select><option>a</select><details>a</details>§</body></html>`,
		"in SVG":                   `<body>hi<svg><g/><path d=""/></svg><svg/>§</body>`,
		"no such thing as <div/>":  `<body>hi§<div hidden/></body>`,
		"hidden":                   `<body>hi§<div style="Display : None !important">a</body>`,
		"hidden attribute":         `<body>hi§<p hidden>a</body>`,
		"hidden from Outlook":      `<body>hi§<span style="mso-hide:all">a</body>`,
		"without height":           `<body>hi§<div style="max-height:0;overflow:hidden">a</body>`,
		"too narrow":               `<body>hi§<div style="width: 5px">a</body>`,
		"hidden and closed":        `<body><div style="display:none">a</div>hi§</body>`,
		"hidden all":               `<body>§<div style="display:none">a<p>b</body>`,
		"div does not end p":       `<body>hi<p>a§<div hidden>b</p>c</body>`,
		"div does not end in td":   `<body>hi§<div hidden><table><tr><td></div></td></tr></table>a</body>`,
		"span does not end in div": `<body>hi§<span hidden><div></span>a</body>`,
		"b is opened again":        `<body><p>hi§<b hidden>a</p>c</body>`,
		"b ends with its cell":     `<body><table><tr><td>hi<b hidden>a</table>c§</body>`,
		"td ends in the next":      `<body><table><tr><td hidden>a<td>hi</table>§</body>`,
		"table ends everything":    `<body><table><tr><td><div hidden></table>hi§</body>`,
		"open table":               `<body><table><tr><td>hi</td></tr>§</body>`,
		"open table at the end":    `<table><tr><td>hi</td></tr>§`,
		"open table, hidden row":   `§<table><tr hidden><td>hi`,
		"open blockquote":          `<body>hi§<blockquote type="cite">old</body>`,
		"Outlook's condition":      `<body><!--[if mso]><p>a</p><![endif]--><![if !mso]>b<![endif]>hi§</body>`,
		"open condition":           `<body>hi§<![if !mso]>b</body>`,
		"open condition, comment":  `<body>hi§<!--[if !mso]><!-- -->b</body>`,
		"too many":                 `<body>§hi` + strings.Repeat("<div>", maxOpen) + `a</body>`,
		"too many, below a reply":  `<body>hi§<blockquote type=cite>` + strings.Repeat("<div>", maxOpen) + `a</body>`,
		"many":                     `<body>hi` + strings.Repeat("<div>", maxOpen-1) + `a§</body>`,
		"many, closed":             `<body>hi` + strings.Repeat("<div>", maxOpen/2) + strings.Repeat("</div>", maxOpen/2) + strings.Repeat("<p>", 2*maxOpen) + `a§</body>`,
	} {
		checkSpot(t, name, marked, func(text string) spot { return htmlSpot(text, Bottom) })
	}
}

func TestOpenLinkEndsAboveTheNotice(t *testing.T) {
	for text, want := range map[string]string{
		"<body>hi <a href=x>there</body></html>":             "</a>\n",
		"<body>hi <a href=x>there</a></body></html>":         "\n",
		"hi <p><a href=x>there</p>":                          "</a>\n",
		"hi <a href=x><b>there</html>":                       "</a>\n",
		"<table><tr><td><a href=x>there</table>":             "\n",
		"hi <a href=x>a<blockquote type=cite>b</blockquote>": "\n",
	} {
		if got := htmlSpot(text, Bottom).before; got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestHTMLKeepsArmorWhole(t *testing.T) {
	faults.Covers(t, 57)
	lines := func(armor, begin, end string) string {
		return begin + strings.ReplaceAll(strings.TrimSuffix(armor, "\n"), "\n", end+begin) + end
	}
	reply := `<div class="gmail_quote">old</div>`
	signed := signedText + "old\n" + signature
	inDivs := lines(signedText, "<div>", "</div>") + reply + lines(signature, "<div>", "</div>")
	for name, marked := range map[string]string{
		"signed, br":              "<body>" + lines(signed, "", "<br>") + "§</body>",
		"signed, div":             "<body>" + lines(signed, "<div>", "</div>") + "§</body>",
		"reply in it":             "<body>" + inDivs + "§</body>",
		"signature in it":         "<body>" + strings.ReplaceAll(inDivs, "gmail_quote", "moz-signature") + "§</body>",
		"Outlook's reply in it":   "<body>" + strings.Replace(inDivs, reply, "<div id=divRplyFwdMsg>From</div>", 1) + "§</body>",
		"reply below it":          "<body>" + lines(signed, "", "<br>") + "§" + reply + "</body>",
		"pre":                     "<body><pre>" + signed + "</pre>§</body>",
		"blanks":                  "<body>" + strings.ReplaceAll(inDivs, " PGP ", "&nbsp;PGP&#160;") + "§</body>",
		"entities":                "<body>" + strings.ReplaceAll(inDivs, "-----", "&#45;----") + "§</body>",
		"elements":                "<body>" + strings.ReplaceAll(inDivs, " PGP ", "<span> PGP</span> ") + "§</body>",
		"line breaks":             "<body>" + strings.ReplaceAll(inDivs, " PGP ", "\r\n PGP\r\n") + "§</body>",
		"end of the body in it":   strings.Replace(inDivs, reply, "</body></html>", 1) + "§",
		"no end":                  "<body><p>hi</p>§" + lines(signedText, "", "<br>") + "</body>",
		"no end, in a div":        "<body><p>hi</p><div>§" + lines(signedText, "", "<br>") + "</div></body>",
		"no end, and no words":    "<body>§" + lines(signedText, "", "<br>") + reply + "</body>",
		"quoted":                  "<body>hi§<blockquote type=cite>" + lines(signed, "", "<br>") + "</blockquote></body>",
		"quoted, no end":          "<body><blockquote type=cite>" + lines(signedText, "", "<br>") + "</blockquote>hi§</body>",
		"quoted by signs":         "<body>" + lines(signedText, "&gt; ", "<br>") + "hi§</body>",
		"end in a quotation":      "<body>" + lines(signedText, "", "<br>") + "<blockquote>" + lines(signature, "", "<br>") + "</blockquote>" + lines(signature, "", "<br>") + "§</body>",
		"a line that looks alike": "<body>-----<br>Ann§" + reply + "</body>",
	} {
		checkSpot(t, name, marked, func(text string) spot { return htmlSpot(text, Bottom) })
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
	for _, piece := range []string{"<", "<!--", "<a ", "<a b=c ", "</body>", "<table>", "<div class=gmail_quote>", "x&nbsp;",
		"</p>", "<div></div>", "<b><p></b>", "<td><tr>", "-----BEGIN PGP MESSAGE-----\n", "-----\n", "-----BEGIN PGP\n", "<span style='display:none'>", "<b hidden></p>", "<style>body,"} {
		text := strings.Repeat(piece, MaxText/len(piece))
		check(piece, func() { htmlSpot(text, Bottom) })
		deep := "<p><button>" + strings.Repeat("<span>", maxOpen-5) + text[:MaxText-8*maxOpen]
		check("deep: "+piece, func() { htmlSpot(deep, Bottom) })
	}
	for _, line := range []string{"-----BEGIN PGP MESSAGE-----\n", "> -----BEGIN PGP MESSAGE-----\nx\n", "-----\n"} {
		text := strings.Repeat(line, MaxText/len(line))
		check(line, func() { plainSpot(text, Bottom, true) })
	}
}

// A mail program may write a text of blanks beside its HTML.
func TestBlanksDoNotIndentTheNotice(t *testing.T) {
	for text, want := range map[string]string{"": "", " ": "\n", "\t ": "\n", "\n": "", " \r\n": "", "\n ": "\n", byteOrderMark: ""} {
		if got := plainSpot(text, Bottom, false); got.before != want || got.at != len(text) {
			t.Errorf("%q: the notice is at %d after %q, want it at %d after %q", text, got.at, got.before, len(text), want)
		}
	}
}
