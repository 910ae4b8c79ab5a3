package parsers

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/encoding/htmlindex"
)

// shownNames are what recipients are to see, each with a charset that can say it.
var shownNames = []struct{ name, charset string }{
	{"Angebot Größe 12.pdf", "iso-8859-1"},
	{"Résumé – final.docx", "windows-1252"},
	{"Отчёт за ноябрь.xlsx", "koi8-r"},
	{"Договор № 5.doc", "windows-1251"},
	{"会议记录.pdf", "gb18030"},
	{"請款單.pdf", "big5"},
	{"報告書.pdf", "iso-2022-jp"},
	{"見積書のご案内.pdf", "shift_jis"},
	{"견적서.hwp", "euc-kr"},
	{"Žádost o dovolenou.pdf", "iso-8859-2"},
	{"Τιμολόγιο.pdf", "iso-8859-7"},
	{"plain report.pdf", "us-ascii"},
}

// spellings write a name into a parameter, as programs do.
var spellings = map[string]func(parameter, name, charset string) string{
	"quoted UTF-8": func(p, name, _ string) string { return p + `="` + name + `"` },
	"an encoded word": func(p, name, charset string) string {
		return p + `="=?` + charset + `?B?` + base64.StdEncoding.EncodeToString(in(charset, name)) + `?="`
	},
	"an unquoted encoded word": func(p, name, charset string) string {
		return p + `==?` + charset + `?B?` + base64.StdEncoding.EncodeToString(in(charset, name)) + `?=`
	},
	"an encoded word without padding": func(p, name, charset string) string {
		return p + `="=?` + charset + `?B?` + base64.RawStdEncoding.EncodeToString(in(charset, name)) + `?="`
	},
	"an encoded word with a language": func(p, name, charset string) string {
		return p + `="=?` + charset + `*en?B?` + base64.StdEncoding.EncodeToString(in(charset, name)) + `?="`
	},
	"a quoted word": func(p, name, charset string) string {
		return p + `="=?` + charset + `?Q?` + escaped(in(charset, name), '=') + `?="`
	},
	"two folded words": func(p, name, _ string) string {
		a, b := half(name)
		return p + `="=?utf-8?B?` + base64.StdEncoding.EncodeToString([]byte(a)) + "?=\r\n =?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(b)) + `?="`
	},
	"a word cut over continuations": func(p, name, charset string) string {
		word := `=?` + charset + `?B?` + base64.StdEncoding.EncodeToString(in(charset, name)) + `?=`
		n := len(word) / 2
		return p + `*0="` + word[:n] + "\";\r\n\t" + p + `*1="` + word[n:] + `"`
	},
	"RFC 2231": func(p, name, charset string) string {
		return p + `*=` + charset + `''` + escaped(in(charset, name), '%')
	},
	"RFC 2231 with a language": func(p, name, charset string) string {
		return p + `*=` + charset + `'en'` + escaped(in(charset, name), '%')
	},
	"RFC 2231 in pieces": func(p, name, _ string) string {
		a, b := half(name)
		return p + `*0*=utf-8''` + escaped([]byte(a), '%') + ";\r\n " + p + `*1*=` + escaped([]byte(b), '%')
	},
	"RFC 2231 in pieces out of order": func(p, name, _ string) string {
		a, b := half(name)
		return p + `*1*=` + escaped([]byte(b), '%') + ";\r\n " + p + `*0*=utf-8''` + escaped([]byte(a), '%')
	},
	"a word in RFC 2231": func(p, name, charset string) string {
		return p + `*=utf-8''` + escaped([]byte(`=?`+charset+`?B?`+base64.StdEncoding.EncodeToString(in(charset, name))+`?=`), '%')
	},
	"raw bytes in the charset of the text": func(p, name, charset string) string { return p + `="` + string(in(charset, name)) + `"` },
}

// in returns a text in a charset.
func in(charset, text string) []byte {
	if charset == "us-ascii" {
		return []byte(text)
	}
	e, err := htmlindex.Get(charset)
	if err != nil {
		panic(err)
	}
	b, err := e.NewEncoder().Bytes([]byte(text))
	if err != nil {
		panic(fmt.Errorf("%s in %s: %w", text, charset, err))
	}
	return b
}

// escaped writes each byte that is not a letter or a digit as two hexadecimal digits after mark.
func escaped(b []byte, mark byte) string {
	var out strings.Builder
	for _, c := range b {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '.' {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%c%02X", mark, c)
		}
	}
	return out.String()
}

// half cuts a text between two characters.
func half(text string) (a, b string) {
	r := []rune(text)
	return string(r[:len(r)/2]), string(r[len(r)/2:])
}

// A file's name is shown as its sender meant it, however a program writes it.
func TestNamesAreShownAsMeant(t *testing.T) {
	for _, n := range shownNames {
		for spelling, write := range spellings {
			text := "Content-Type: text/plain; charset=" + n.charset + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
				base64.StdEncoding.EncodeToString(in(n.charset, n.name)) + "\r\n"
			for where, file := range map[string]string{
				"filename": "Content-Type: application/octet-stream\r\nContent-Disposition: attachment;\r\n " + write("filename", n.name, n.charset) + "\r\n",
				"name":     "Content-Type: application/octet-stream;\r\n " + write("name", n.name, n.charset) + "\r\nContent-Disposition: attachment\r\n",
			} {
				mail := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + text + "--b\r\n" + file + "\r\nfile\r\n--b--\r\n"
				_, files := rewritten(t, []byte(mail), 1)
				if len(files) != 1 || files[0].name != n.name {
					t.Errorf("%s, %s, %s: shown as %q, want %q", spelling, where, n.charset, fileNamesOf(files), n.name)
				}
			}
		}
	}
}

func fileNamesOf(files []file) (names []string) {
	for _, f := range files {
		names = append(names, f.name)
	}
	return names
}
