package parsers

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"mime/quotedprintable"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	variants = flag.Int("variants", 400, "how many mails to make up")
	seed     = flag.Uint64("seed", 1, "the first of the mails to make up")
)

// Mails of many structures are made up: each part has a type, a disposition, a name, a charset and
// a transfer encoding that other mails have in other places. Each is number seed+i, so that a
// failure can be repeated with -seed N -variants 1.
func TestRecipientsSeeTheSameOfVariants(t *testing.T) {
	r := startReaders(t)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		found = map[string]int{}
	)
	slots := make(chan struct{}, 4)
	for n := range uint64(*variants) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			mail, outline := variant(*seed + n)
			for _, c := range r.judge(t, mail, 1) {
				t.Errorf("%d\t%s\t%s\t%.600s", *seed+n, c.rule, outline, c.detail)
				mu.Lock()
				found[c.rule]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d mails, %d of them rewritten", *variants, r.rewritten[0].Load())
	for _, rule := range slices.Sorted(maps.Keys(found)) {
		t.Logf("%5d %s", found[rule], rule)
	}
}

// variant returns the mail with a number, and its structure in one line.
func variant(number uint64) (mail []byte, outline string) {
	v := &maker{Rand: rand.New(rand.NewPCG(number, 1))}
	entity, outline := v.entity(0)
	return []byte("From: a@example.org\r\nTo: b@example.net\r\nSubject: Variant\r\nMIME-Version: 1.0\r\n" + entity), outline
}

// A maker makes up one mail.
type maker struct {
	*rand.Rand
	parts int
}

// pick returns one of the choices. The first is twice as frequent as the others.
func (m *maker) pick(choices ...string) string { return choices[max(0, m.IntN(len(choices)+1)-1)] }

func (m *maker) entity(depth int) (entity, outline string) {
	m.parts++
	if depth == 0 || depth < 3 && m.IntN(4) == 0 {
		return m.multipart(depth)
	}
	return m.leaf()
}

func (m *maker) multipart(depth int) (entity, outline string) {
	boundary := fmt.Sprintf("_b%d", m.parts)
	kind := m.pick("mixed", "alternative", "related")
	entity = "Content-Type: multipart/" + kind + m.pick("; boundary=\"%s\"", "; boundary=%s;;", "; boundary=%s; boundary=%[1]s", ";\r\n\tBoundary=\"%s\"; x=\"y=z\"") + "\r\n\r\n"
	entity = fmt.Sprintf(entity, boundary)
	var outlines []string
	for i := range 1 + m.IntN(4) {
		part, o := m.entity(depth + 1)
		if i == 0 && kind == "related" { // its root, which is a text
			part, o = m.root(depth + 1)
		}
		entity += "--" + boundary + "\r\n" + part + "\r\n"
		outlines = append(outlines, o)
	}
	if group := groups[m.IntN(len(groups))]; kind == "mixed" && m.IntN(6) == 0 {
		for _, part := range group {
			entity += "--" + boundary + "\r\n" + part + "\r\n"
		}
		outlines = append(outlines, strings.ReplaceAll(group[len(group)-1], "\r\n", " "))
	}
	return entity + "--" + boundary + "--\r\n", kind + "[" + strings.Join(outlines, ", ") + "]"
}

// root makes up the part that a multipart/related is about: a text, or alternatives.
func (m *maker) root(depth int) (entity, outline string) {
	if m.IntN(2) == 0 {
		return m.text(m.pick("text/html", "text/plain"), "", "")
	}
	boundary := fmt.Sprintf("_b%d", m.parts)
	plain, o1 := m.text("text/plain", "", "")
	html, o2 := m.text("text/html", "", "")
	return "Content-Type: multipart/alternative; boundary=\"" + boundary + "\"\r\n\r\n" +
		"--" + boundary + "\r\n" + plain + "\r\n--" + boundary + "\r\n" + html + "\r\n--" + boundary + "--\r\n", "alternative[" + o1 + ", " + o2 + "]"
}

// groups has parts that belong together, or that only the recipient's program can read.
var groups = [][]string{
	{
		"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
		"Content-Type: application/octet-stream; name=encrypted.asc\r\nContent-Disposition: inline\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQ==\r\n-----END PGP MESSAGE-----\r\n",
	},
	{
		"Content-Type: application/octet-stream; name=msg.asc\r\nContent-Disposition: attachment\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQ==\r\n-----END PGP MESSAGE-----\r\n",
		"Content-Type: application/pgp-encrypted; name=version\r\nContent-Disposition: attachment\r\n\r\nVersion: 1\r\n",
	},
	{"Content-Type: application/octet-stream; name=smime.p7m\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\nMIAGCSqGSIb3DQEHA6CAMIACAQ==\r\n"},
	{
		"Content-Type: application/pdf; name=contract.pdf\r\nContent-Disposition: attachment\r\n\r\n%PDF contract\r\n",
		"Content-Type: application/pgp-signature; name=contract.pdf.asc\r\nContent-Disposition: attachment\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\niQ==\r\n-----END PGP SIGNATURE-----\r\n",
	},
	{
		"Content-Type: application/zip; name=a.zip\r\nContent-Disposition: attachment\r\n\r\nPK zip\r\n",
		"Content-Type: application/octet-stream; name=a.zip.sig\r\nContent-Disposition: attachment\r\n\r\nsignature\r\n",
	},
}

// fileNames are the ways to write one name into a header field, by what it says.
var fileNames = map[string][]string{
	"report.pdf":      {`name="report.pdf"`, `name=report.pdf`, `name*=utf-8''report.pdf`},
	"Größe 1.pdf":     {`name="=?utf-8?Q?Gr=C3=B6=C3=9Fe_1.pdf?="`, `name*=iso-8859-1''Gr%F6%DFe%201.pdf`, "name=\"Größe 1.pdf\"", `name*0*=utf-8''Gr%C3%B6; name*1*=%C3%9Fe%201.pdf`},
	"image001.png":    {`name="image001.png"`},
	"notes.txt":       {`name="notes.txt"`, `name=notes.txt`},
	"Angebot 1_2.htm": {`name="Angebot 1/2.htm"`},
}

func (m *maker) leaf() (entity, outline string) {
	kind := m.pick("text/plain", "text/html", "text/html", "text/plain", "application/pdf", "image/png", "application/octet-stream",
		"text/calendar", "text/enriched", "text/csv", "text/x-amp-html", "message/rfc822", "", "application/pgp-keys")
	name := ""
	if shown := slices.Sorted(maps.Keys(fileNames)); m.IntN(3) > 0 && (kind != "text/plain" && kind != "text/html" || m.IntN(3) == 0) {
		name = m.pick(fileNames[shown[m.IntN(len(shown))]]...)
	}
	return m.text(kind, m.pick("", "inline", "attachment"), name)
}

// text makes up a part with a type, a disposition and a name, which may be empty.
func (m *maker) text(kind, disposition, name string) (entity, outline string) {
	m.parts++
	charset := ""
	if strings.HasPrefix(kind, "text/") {
		charset = m.pick("utf-8", "iso-8859-1", "us-ascii", "")
	}
	cid := ""
	if !strings.HasPrefix(kind, "text/") && m.IntN(3) == 0 {
		cid = m.pick("pic1@x", "pic2@x")
	}
	encoding := m.pick("base64", "quoted-printable", "7bit")
	if kind == "message/rfc822" {
		encoding = "7bit"
	}
	if kind != "" {
		entity = "Content-Type: " + kind
		if charset != "" {
			entity += "; charset=" + charset
		}
		if name != "" && m.IntN(2) == 0 {
			entity += ";\r\n " + name
		}
		entity += "\r\n"
	}
	if disposition != "" {
		entity += "Content-Disposition: " + disposition
		if name != "" {
			entity += ";\r\n file" + strings.ReplaceAll(name, "; name", "; filename")
		}
		entity += "\r\n"
	}
	if cid != "" {
		entity += "Content-ID: <" + cid + ">\r\n"
	}
	entity += "Content-Transfer-Encoding: " + encoding + "\r\n\r\n" + encode(encoding, m.body(kind, charset))
	return entity, strings.Join(slices.DeleteFunc([]string{kind, charset, disposition, name, cid, encoding}, func(s string) bool { return s == "" }), " ")
}

// body returns the decoded content of a part. Each differs from the others.
func (m *maker) body(kind, charset string) string {
	words := fmt.Sprintf("Part %d of this mail.", m.parts)
	if charset == "utf-8" {
		words += " Grüße."
	}
	switch kind {
	case "text/html":
		return "<html><body><p>" + words + "</p>" + m.pick("", `<img src="cid:pic1@x">`, `<img src=cid:pic2@x>`) + "</body></html>\r\n"
	case "text/calendar":
		return "BEGIN:VCALENDAR\r\nSUMMARY:" + words + "\r\nEND:VCALENDAR\r\n"
	case "message/rfc822":
		return "Subject: inner\r\n\r\n" + words + "\r\n"
	case "application/pdf", "image/png", "application/octet-stream", "":
		return "%PDF-1.4 " + words + "\r\n"
	}
	return words + "\r\n\r\nMore.\r\n"
}

func encode(encoding, body string) string {
	switch encoding {
	case "base64":
		return base64.StdEncoding.EncodeToString([]byte(body)) + "\r\n"
	case "quoted-printable":
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		w.Write([]byte(body))
		w.Close()
		return b.String()
	}
	return body
}
