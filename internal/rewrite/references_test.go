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
