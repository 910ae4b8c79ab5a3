package rewrite

import "testing"

// A part is known by its fields as mail programs write them, also folded and as encoded words.
func TestFieldsOfReferredParts(t *testing.T) {
	for _, c := range []struct{ html, field string }{
		{`<img src="cid:logo@x">`, "Content-ID: <logo@x>"},
		{`<img src="cid:logo@x">`, "content-id:<logo@x>"},
		{`<img src="cid:logo@x">`, "Content-ID:\r\n <logo@x>\r\n "},
		{`<img src="cid:logo@x">`, "Content-ID: < logo@x >"},
		{`<img src="cid:logo@x">`, "Content-ID: <other@x>\r\nContent-ID: <logo@x>"},
		{`<img src="cid:größe@x">`, "Content-ID: <=?utf-8?Q?gr=C3=B6=C3=9Fe=40x?=>"},
		{`<img src="cid:größe@x">`, "Content-ID: =?iso-8859-1?Q?<gr=F6=DFe=40x>?="},
		{`<img src="cid:=?utf-8?Q?a?=">`, "Content-ID: <=?utf-8?Q?a?=>"},
		{`<img src="cid:gr&#246;&szlig;e@x">`, "Content-ID: <größe@x>"},
		{`<img src="a.png">`, "Content-Location: a.png"},
		{`<img src="http://x.example/long/a.png">`, "Content-Location: http://x.example/\r\n long/\r\n a.png"},
		{`<img src="größe.png">`, "Content-Location: =?utf-8?Q?gr=C3=B6=C3?= =?utf-8?Q?=9Fe.png?="},
		{`<img src="a.png">`, "Content-Disposition: inline; filename=A.png"},
		{`<img src="größe.png">`, "Content-Disposition: inline; filename*=utf-8''gr%C3%B6%C3%9Fe.png"},
		{`<td background="cid:a.png">`, "X: y\r\nContent-Type: image/png; name=a.png"},
	} {
		picture := "Content-Type: image/png\r\n" + c.field
		if c.field[:2] == "X:" {
			picture = c.field
		}
		mail := multipart("mixed", "Content-Type: text/html; charset=utf-8\r\n\r\n"+c.html, picture+"\r\n\r\nx")
		untouched(t, mail)
		mail = multipart("mixed", "Content-Type: text/html; charset=utf-8\r\n\r\n<img src=cid:other><a href='b.png'>", picture+"\r\n\r\nx")
		if c.field != "Content-ID: <other@x>\r\nContent-ID: <logo@x>" {
			detached(t, mail, "x")
		}
	}
}

// Every text that mail programs show, or read with those that they show, may refer to a part,
// whatever comes first.
func TestTextsThatRefer(t *testing.T) {
	picture := "Content-Type: image/png\r\nContent-ID: <logo@x>\r\n\r\nx"
	html := "Content-Type: text/html\r\n\r\n<p>Hello</p>"
	for _, text := range []string{
		"Content-Type: text/html\r\n\r\n<img src=cid:logo@x>",
		"Content-Type: Text/HTML; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<img src=3D\"cid:lo=\r\ngo@x\">",
		"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGltZyBzcmM9ImNpZDpsb2dv\r\nQHgiPg==", // <img src="cid:logo@x">
		"Content-Type: text/html\r\nContent-Transfer-Encoding: x-unknown\r\n\r\nwhatever it says",
		"Content-Type: text/html; charset=utf-7\r\n\r\n+ADw-img src=+ACI-cid:logo@x+ACIAPg-",
		"Content-Type: text/watch-html\r\n\r\n<img src=cid:logo@x>",
		"Content-Type: text/css\r\n\r\ntd { background: url(cid:logo@x) }",
		"Content-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\nATTACH;FMTTYPE=image/png:CID:lo\r\n go@x\r\nEND:VCALENDAR",
		"Content-Type: text/calendar; name=invite.ics\r\nContent-Disposition: attachment\r\n\r\nATTACH:CID:logo@x",
	} {
		for _, parts := range [][]string{{html, text, picture}, {picture, html, text}, {text, picture}} {
			untouched(t, multipart("related", parts...))
		}
		untouched(t, multipart("mixed", html, picture, text))
		untouched(t, multipart("mixed", text, picture))
	}
	drawing := "Content-Type: image/svg+xml\r\nContent-ID: <drawing@x>\r\n\r\n<svg><image xlink:href='cid:logo@x'/></svg>"
	untouched(t, multipart("related", html+"<img src=cid:drawing@x>", drawing, picture))
	untouched(t, multipart("related", html+"<img src=cid:drawing@x>", picture, drawing))
	detached(t, multipart("mixed", "Content-Type: text/plain\r\n\r\n[cid:logo@x]", picture), "x")
}
