package rewrite

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

func TestFileNamesAreDecoded(t *testing.T) {
	faults.Covers(t, 68)
	for _, tt := range []struct{ name, disposition, contentType, want string }{
		{"plain", `attachment; filename=report.pdf`, ``, "report.pdf"},
		{"quoted", `attachment; filename="my report.pdf"`, ``, "my report.pdf"},
		{"unquoted with blanks", `attachment; filename=my report.pdf`, ``, "my report.pdf"},
		{"semicolon in quotes", `attachment; filename="a;b.pdf"; size=3`, ``, "a;b.pdf"},
		{"escaped quote", `attachment; filename="a\"b.pdf"`, ``, `a"b.pdf`},
		{"name only", `attachment`, `application/pdf; name=x.pdf`, "x.pdf"},
		{"filename before name", `attachment; filename=a.pdf`, `application/pdf; name=b.pdf`, "a.pdf"},
		{"empty filename", `attachment; filename=`, `application/pdf; name=b.pdf`, "b.pdf"},
		{"RFC 2231", `attachment; filename*=UTF-8''na%C3%AFve.txt`, ``, "naïve.txt"},
		{"RFC 2231 latin1 and language", `attachment; filename*=iso-8859-1'en-US'%A3%20rates.txt`, ``, "£ rates.txt"},
		{"RFC 2231 continued", `attachment; filename*0*=UTF-8''%e2%82%ac; filename*1=" and "; filename*2*=%c3%a9.txt`, ``, "€ and é.txt"},
		{"RFC 2231 continued, plain", `attachment; filename*0="long "; filename*1="name.txt"`, ``, "long name.txt"},
		{"extended goes first", `attachment; filename="x.txt"; filename*=utf-8''y.txt`, ``, "y.txt"},
		{"RFC 2047", `attachment; filename="=?utf-8?B?w6kudHh0?="`, ``, "é.txt"},
		{"RFC 2047 in pieces", `attachment; filename="=?iso-8859-1?Q?caf=E9?= =?iso-8859-1?Q?_2.txt?="`, ``, "café 2.txt"},
		{"RFC 2047, a character in two words", `attachment; filename="=?UTF-8?Q?caf=C3?= =?utf-8?q?=A9.txt?="`, ``, "café.txt"},
		{"RFC 2047, base64 in two words", `attachment; filename="=?utf-8?B?Y2FmZsOp?= =?utf-8?B?LnR4dA==?="`, ``, "caffé.txt"},
		{"RFC 2047, words and text", `attachment; filename="a =?utf-8?Q?=C3=A9?= b =?utf-8?Q?=C3=A9?=.txt"`, ``, "a é b é.txt"},
		{"RFC 2231 with language", `attachment; filename*=utf-8'en-US'x`, ``, "x"},
		{"RFC 2231 mixed with plain", `attachment; filename*0="a b"; filename*1*=%20c.txt`, ``, "a b c.txt"},
		{"RFC 2231 beyond the limit", "attachment; " + strings.Repeat("x=y; ", maxParams) + "filename=a.txt", ``, ""},
		{"UTF-7 is not decoded", `attachment; filename="+AOk-.txt"`, ``, "+AOk-.txt"},
		{"raw UTF-8", "attachment; filename=\"é.txt\"", ``, "é.txt"},
		{"raw latin1", "attachment; filename=\"\xe9.txt\"", ``, "é.txt"},
		{"bad percent", `attachment; filename*=utf-8''100%.txt`, ``, "100%.txt"},
		{"unknown charset", `attachment; filename*=x-klingon''a.txt`, ``, "a.txt"},
		{"twice: the first", `attachment; filename=a.txt; filename=b.txt`, ``, "a.txt"},
		{"none", `inline`, `image/png`, ""},
	} {
		if got := fileName(tt.disposition, tt.contentType); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAttachmentsWithoutANameGetOneByTheirType(t *testing.T) {
	for mimeType, want := range map[string]string{"application/pdf": "attachment.pdf", "x/y": "attachment"} {
		if got := displayName(" ../..", mimeType); got != want {
			t.Errorf("%s: got %q, want %q", mimeType, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{`attachment; filename="a.txt"`, `a; filename*0*=utf-8''x; filename*1=y`, `a; filename==?utf-8?Q?=00=0d?=`, "a; name*=''%", `;;;=;filename*9*`} {
		f.Add(s)
	}
	for _, s := range paramFields(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := displayName(fileName(s, s), "application/pdf")
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\") || !utf8.ValidString(name) {
			t.Errorf("%q: unsafe name %q", s, name)
		}
		for _, r := range name {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%q: %U in name", s, r)
			}
		}
	})
}
