package rewrite

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/charsets"
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
		{"raw UTF-8", "attachment; filename=\"é.txt\"", ``, "é.txt"},
		{"raw latin1", "attachment; filename=\"\xe9.txt\"", ``, "é.txt"},
		{"bad percent", `attachment; filename*=utf-8''100%.txt`, ``, "100%.txt"},
		{"unknown charset", `attachment; filename*=x-klingon''a.txt`, ``, "a.txt"},
		{"twice: the first", `attachment; filename=a.txt; filename=b.txt`, ``, "a.txt"},
		{"no disposition", `filename="a;b.pdf"; size=3`, ``, "a;b.pdf"},
		{"name in the disposition", `attachment; name="a.log"`, `text/plain`, "a.log"},
		{"name in the disposition is the last", `attachment; name="field1"`, `text/plain; name=a.log`, "a.log"},
		{"none", `inline`, `image/png`, ""},
	} {
		if got := fileName(tt.disposition, tt.contentType, nil); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Names arrive in every notation that mail programs write, and in what other programs made of it.
func TestNamesKeepTheirMeaning(t *testing.T) {
	faults.Covers(t, 68)
	for _, tt := range []struct{ name, disposition, contentType, want string }{
		// Continuations.
		{"words cut over continuations", `a; filename*0="=?UTF-8?B?5rWL6K+V5paH5"; filename*1="Lu2LnBkZg==?="`, ``, "测试文件.pdf"},
		{"each piece a word", `a; filename*0="=?UTF-8?B?5rWL6K+V?="; filename*1="=?UTF-8?B?LnBkZg==?="`, ``, "测试.pdf"},
		{"words in charset'lang'text", `a; filename*=utf-8''%3D%3FUTF-8%3FB%3F5rWL6K+V%3F%3D.pdf`, ``, "测试.pdf"},
		{"pieces out of order", `a; filename*1*=b.pdf; filename*0*=utf-8''%C3%A9`, ``, "éb.pdf"},
		{"a missing piece", `a; filename*0*=utf-8''%C3%A9; filename*2*=b.pdf`, ``, "éb.pdf"},
		{"counted from 1", `a; filename*1=a; filename*2=b.pdf`, ``, "ab.pdf"},
		{"two digits", `a; filename*00*=utf-8''%C3%A9; filename*01*=b.pdf`, ``, "éb.pdf"},
		{"a hundred pieces are in order", `a; ` + numberedPieces(120), ``, strings.Repeat("x", 120) + ".pdf"},
		{"capitals", `A; FILENAME*0*=UTF-8''%c3%a9; FileName*1*=b.pdf`, ``, "éb.pdf"},
		{"a piece twice", `a; filename*0=a; filename*0=x; filename*1=b.pdf`, ``, "ab.pdf"},
		{"a character cut over pieces", `a; filename*0*=utf-8''%E6%B5; filename*1*=%8B.pdf`, ``, "测.pdf"},
		{"an escape cut over pieces", `a; filename*0*=utf-8''%E6%B5%8; filename*1*=B.pdf`, ``, "测.pdf"},
		{"escapes in a piece without star", `a; filename*0*=utf-8''%E6%B5%8B; filename*1=%E8%AF%95.pdf`, ``, "测试.pdf"},
		{"the charset in every piece", `a; filename*0*=utf-8''%E6%B5%8B; filename*1*=utf-8''%E8%AF%95.pdf`, ``, "测试.pdf"},
		{"charset'lang'text without star", `a; filename="UTF-8''na%C3%AFve.txt"`, ``, "naïve.txt"},
		{"charset'lang'text without star, in pieces", `a; filename*0="UTF-8''na%C3"; filename*1="%AFve.txt"`, ``, "naïve.txt"},
		{"blanks in the name of the parameter", `a; filename *0* = utf-8''%C3%A9; filename*1 = ".txt"`, ``, "é.txt"},
		// Extended values.
		{"one apostrophe", `a; filename*=utf-8'na%C3%AFve.txt`, ``, "naïve.txt"},
		{"quotation marks for apostrophes", `a; filename*=utf-8""na%C3%AFve.txt`, ``, "naïve.txt"},
		{"in quotation marks", `a; filename*="utf-8''na%C3%AFve.txt"`, ``, "naïve.txt"},
		{"the text in quotation marks", `a; filename*=utf-8''"na%C3%AFve.txt"`, ``, "naïve.txt"},
		{"no charset", `a; filename*=na%C3%AFve.txt`, ``, "naïve.txt"},
		{"an empty charset", `a; filename*=''na%C3%AFve.txt`, ``, "naïve.txt"},
		{"an unknown charset of UTF-8", `a; filename*=x-none''na%C3%AFve.txt`, ``, "naïve.txt"},
		{"apostrophes in a name", `a; filename*=Ann's 'new' file.txt`, ``, "Ann's 'new' file.txt"},
		{"encoded twice", `a; filename*=utf-8''na%25C3%25AFve.txt`, ``, "naïve.txt"},
		{"a broken escape", `a; filename*=utf-8''na%C3%AFve%2.txt`, ``, "naïve%2.txt"},
		{"utf-8 that is latin-1", `a; filename*=utf-8''na%EFve.txt`, ``, "naïve.txt"},
		{"cut off within a character", `a; filename*=utf-8''report%E6%B5`, `application/pdf`, "report.pdf"},
		{"a broken extended value, and a plain one", `a; filename="report.pdf"; filename*=utf-8''r%FF%FE`, ``, "report.pdf"},
		{"an empty extended value, and a plain one", `a; filename="report.pdf"; filename*=utf-8''`, ``, "report.pdf"},
		{"folded within a character", `a; filename*=utf-8''%E6%B5 %8B 1.pdf`, ``, "测 1.pdf"},
		{"gbk in percent-encoding", `a; filename*=gb2312''%B2%C6%CE%F1%96|.pdf`, ``, "财务東.pdf"},
		// Encoded words.
		{"a language", `a; filename="=?utf-8*en?Q?r=C3=A9sum=C3=A9.pdf?="`, ``, "résumé.pdf"},
		{"no padding", `a; filename="=?utf-8?B?5rWL6K+VLnBkZg?="`, ``, "测试.pdf"},
		{"no padding in each word", `a; filename="=?utf-8?B?w6k?= =?utf-8?B?w6kucGRm?="`, ``, "éé.pdf"},
		{"base64 cut anywhere", `a; filename="=?utf-8?B?5rWL6?= =?utf-8?B?K+VLnBkZg==?="`, ``, "测试.pdf"},
		{"blanks in base64", `a; filename="=?utf-8?B?5rWL 6K+V LnBkZg==?="`, ``, "测试.pdf"},
		{"padding in the middle", `a; filename="=?utf-8?B?5rWL6K8==lS5wZGY=?="`, ``, "测试.pdf"},
		{"blanks in Q", `a; filename="=?utf-8?Q?r=C3=A9sum=C3=A9 of Ann.pdf?="`, ``, "résumé of Ann.pdf"},
		{"no end", `a; filename="=?utf-8?B?5rWL6K+VLnBkZg=="`, ``, "测试.pdf"},
		{"half an end", `a; filename="=?utf-8?B?5rWL6K+VLnBkZg==?"`, ``, "测试.pdf"},
		{"Q folded within a character", `a; filename="=?utf-8?Q?=E6=B5 =8B 1.pdf?="`, ``, "测 1.pdf"},
		{"the end of a word", `a; filename="report.pdf?="`, ``, "report.pdf"},
		{"cut off", `a; filename="=?utf-8?B?5rWL6K"`, `application/pdf`, "测.pdf"},
		{"no end, and another word", `a; filename="=?utf-8?B?5rWL =?utf-8?B?6K+VLnBkZg==?="`, ``, "测试.pdf"},
		{"glued together", `a; filename="=?utf-8?B?5rWL?==?utf-8?B?6K+VLnBkZg==?="`, ``, "测试.pdf"},
		{"glued to text", `a; filename="a=?utf-8?B?5rWL?=b.pdf"`, ``, "a测b.pdf"},
		{"blanks before the encoding", `a; filename="=? utf-8 ? B ?5rWLLnBkZg==?="`, ``, "测.pdf"},
		{"in quotation marks in quotation marks", `a; filename="\"=?utf-8?B?5rWLLnBkZg==?=\""`, ``, "测.pdf"},
		{"quotation marks in a word", `a; filename==?utf-8?Q?"=E6=B5=8B.pdf"?=`, ``, "测.pdf"},
		{"encoded twice", `a; filename="=?utf-8?B?PT91dGYtOD9CPzVyV0xMbkJrWmc9PT89?="`, ``, "测.pdf"},
		{"a character in two words of two encodings", `a; filename="=?utf-8?Q?=E6=B5?= =?utf-8?B?iy5wZGY=?="`, ``, "测.pdf"},
		{"us-ascii that is UTF-8", `a; filename="=?us-ascii?Q?=E6=B5=8B.pdf?="`, ``, "测.pdf"},
		{"an unknown charset that is UTF-8", `a; filename="=?unknown-8bit?Q?=E6=B5=8B.pdf?="`, ``, "测.pdf"},
		{"an unknown charset that is GBK", `a; filename="=?x-unknown?B?ssbO8bGouOYucGRm?="`, ``, "财务报告.pdf"},
		// Parameters.
		{"quotation marks in quotation marks", `a; filename="the "new" report.pdf"; size=3`, ``, `the "new" report.pdf`},
		{"a quoted string without an end", `a; filename="report.pdf; size=3`, ``, "report.pdf"},
		{"no semicolon", `a; filename="report.pdf" size=3`, ``, "report.pdf"},
		{"single quotation marks", `a; filename='report.pdf'`, ``, "report.pdf"},
		{"empty, then not", `a; filename=""; filename="report.pdf"`, ``, "report.pdf"},
		// filename and name.
		{"question marks, and a name", `a; filename="????.pdf"`, `application/pdf; name="=?utf-8?B?5rWLLnBkZg==?="`, "测.pdf"},
		{"noname, and a name", `a; filename="noname"`, `application/pdf; name="report.pdf"`, "report.pdf"},
		{"an undecodable word, and a name", `a; filename="=?utf-8?X?5rWL?="`, `application/pdf; name="report.pdf"`, "report.pdf"},
		{"raw bytes, and a word", "a; filename=\"\xb2\xe2.pdf\"", `application/pdf; name="=?gb2312?B?suIucGRm?="`, "测.pdf"},
		{"blanks, and a name", `a; filename=" "`, `application/pdf; name="report.pdf"`, "report.pdf"},
		// The last resort.
		{"blanks", `inline`, `text/plain; name=" "`, ""},
		{"an undecodable word", `a; filename="=?utf-8?X?5rWL?="`, `application/pdf`, "attachment.pdf"},
		{"nothing but question marks", `a; filename="?????.docx"`, `application/octet-stream`, "attachment.docx"},
		{"an empty word", `a; filename="=?utf-8?B??="`, `image/png; x=y`, "attachment.png"},
		{"nothing but an extension", `a; filename=".PDF"`, ``, "attachment.PDF"},
		{"a hidden file", `a; filename=".bashrc"`, ``, "bashrc"},
		{"no extension", `a; filename="README"`, `text/plain`, "README"},
		{"no extension, of a known type", `a; filename="Scan"`, `application/pdf`, "Scan"},
		// Names as other programs have changed them.
		{"percent-encoding", `a; filename="R%C3%A9sum%C3%A9%20of%20Ann.pdf"`, ``, "Résumé of Ann.pdf"},
		{"percent signs", `a; filename="Rechnung%20Mai 100%.pdf"`, ``, "Rechnung%20Mai 100%.pdf"},
		{"entities of numbers", `a; filename="R&#233;sum&#233; of Ann & Bob &lt;3.pdf"`, ``, "Résumé of Ann & Bob &lt;3.pdf"},
		{"entities in hexadecimal are left", `a; filename="a&#x41;.pdf"`, ``, "a&#x41;.pdf"},
		{"entities of ASCII are left", `a; filename="a&#47;b.pdf"`, ``, "a&#47;b.pdf"},
		// Charsets of 7 bits, raw.
		{"raw ISO-2022-JP", "a; filename=\"\x1b$BJs9p=q\x1b(B.pdf\"", ``, "報告書.pdf"},
		{"raw ISO-2022-JP with quotation marks and semicolons", "a; filename=\"\x1b$B0\"0;\x1b(B.pdf\"; size=3", ``, "唖飴.pdf"},
		{"raw ISO-2022-KR", "a; filename=\"\x1b$)C\x0e:80m<-\x0f.pdf\"", ``, "보고서.pdf"},
		{"raw HZ", `a; filename="~{2FNq1(8f~}.pdf"`, ``, "财务报告.pdf"},
		{"a tilde and a brace", `a; filename="a~{b}.pdf"`, ``, "a~{b}.pdf"},
		{"raw UTF-7", `a; filename="R+AOk-sum+AOk-.pdf"`, ``, "Résumé.pdf"},
		{"a plus sign", `a; filename="C+abc-x.pdf"`, ``, "C+abc-x.pdf"},
		{"a plus sign and a number", `a; filename="Call +49-89-1234.pdf"`, ``, "Call +49-89-1234.pdf"},
		{"raw UTF-8 that was cut off", "a; filename=\"Отчёт за ма\xd0\"", `application/pdf`, "Отчёт за ма.pdf"},
		{"raw UTF-8 with a damaged byte", "a; filename=\"Отчёт \xffза май.pdf\"", ``, "Отчёт \uFFFDза май.pdf"},
		// Raw Shift_JIS, whose second bytes may be backslashes.
		{"a backslash in a character", "a; filename=\"\x95\x5c\x8e\xa6.xls\"", ``, "表示.xls"},
		{"no extension", "a; filename=\"\x8e\x91\x97\xbf\x88\xea\x97\x97\"", `application/pdf`, "資料一覧"},
		{"a backslash at the end", "a; filename=\"\x8e\x91\x97\xbf\x88\xea\x97\x97\x95\x5c\"; size=3", ``, "資料一覧表"},
	} {
		if got := displayName(fileName(tt.disposition, tt.contentType, nil), "application/x-none"); got != tt.want && !(tt.want == "" && got == "attachment") {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func numberedPieces(n int) string {
	var b strings.Builder
	for i := n; i >= 0; i-- { // backwards
		value := "x"
		if i == n {
			value = ".pdf"
		}
		fmt.Fprintf(&b, "filename*%d=%s;", i, value)
	}
	return b.String()
}

// Charsets have many labels.
func TestWordsInEveryLabel(t *testing.T) {
	for text, labels := range map[string][]string{
		"報告.pdf":  {"big5", "cp950", "CP-950", "ms950", "x-big5", "cn-big5", "big5-hkscs"},
		"보고서.pdf": {"euc-kr", "cp949", "ms949", "ks_c_5601-1987", "uhc", "x-windows-949", "euckr", "windows-949"},
		"財務.pdf":  {"shift_jis", "x-sjis", "sjis", "cp932", "windows-31j", "ms932", "shift-jis", "euc-jp", "x-euc-jp", "iso-2022-jp", "csISO2022JP", "iso-2022-jp-ms"},
		"财务.pdf":  {"gb2312", "gbk", "x-gbk", "cp936", "gb18030", "euc-cn", "hz-gb-2312", "GB_2312-80"},
		"é.pdf":   {"iso-8859-1", "ISO8859-1", "latin1", "windows-1252", "cp1252", "cp-1252", "win-1252", "x-cp1252", "macintosh", "x-mac-roman", "iso_8859-15", "utf8", "utf_8", "UTF-8", "ibm850", "cp850"},
		"ż.pdf":   {"iso-8859-2", "cp1250", "win-1250", "windows-1250", "ibm852"},
		"Ж.pdf":   {"koi8-r", "koi8", "cp1251", "win-1251", "windows-1251", "iso-8859-5", "cp866", "x-mac-cyrillic", "ansi-1251"},
		"ש.pdf":   {"iso-8859-8", "iso-8859-8-i", "iso-8859-8-e", "windows-1255", "cp1255"},
		"ก.pdf":   {"tis-620", "iso-8859-11", "windows-874", "cp874"},
	} {
		for _, label := range labels {
			raw := []byte(text)
			if c, ok := charsets.Find(label); ok {
				if raw, ok = c.Encode(text); !ok {
					t.Errorf("%s cannot encode %q", label, text)
				}
			} else if charsets.Name(label) != "utf-8" {
				t.Errorf("%s is not known", label)
			}
			for _, header := range []string{
				"a; filename==?" + label + "?B?" + base64.StdEncoding.EncodeToString(raw) + "?=",
				"a; filename*=" + label + "''" + percentEncode(raw),
			} {
				if got := fileName(header, "", nil); got != text {
					t.Errorf("%s: got %q, want %q", header, got, text)
				}
			}
		}
	}
	for _, word := range []string{"=?utf-7?Q?+bUuL1Q-.pdf?=", "=?unicode-1-1-utf-7?B?K2JVdUwxUS0ucGRm?=", "=?UTF-7?Q?+bUuL1Q.pdf?="} {
		if got := fileName(`a; filename="`+word+`"`, "", nil); got != "测试.pdf" {
			t.Errorf("%s: got %q", word, got)
		}
	}
}

func percentEncode(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, "%%%02X", c)
	}
	return s.String()
}

// Raw bytes are in the charset of the part or of the mail's texts, if they are text in it.
func TestRawNamesAreInTheCharsetOfTheMail(t *testing.T) {
	for _, tt := range []struct{ raw, contentType, charset, want string }{
		{"\xd3\xd4", `a/b; charset=koi8-r`, "", "ст"},
		{"\xf1\xf2", ``, "windows-1251", "ст"},
		{"\xd3\xd4", ``, "koi8-r", "ст"},
		{"\xe1\xe2", ``, "cp866", "ст"},
		{"\xb9\xbf", ``, "windows-1250", "ąż"},
		{"\xb1\xbf", ``, "iso-8859-2", "ąż"},
		{"\xf9\xec\xe5\xed", ``, "windows-1255", "שלום"},
		{"\xb2\xe2\xca\xd4", ``, "utf-8", "测试"},
		{"\xb2\xe2\xca\xd4", ``, "iso-8859-1", "测试"},
		{"M\xfcller", ``, "gb2312", "Müller"},
		{"\xe0\xe2", ``, "iso-8859-5", "рт"},
		{"\xb6\xe8\xe7", ``, "iso-8859-7", "Άθη"},
		{"\xa4\xa6", ``, "koi8-u", "єі"},
		{"\xcd\xbd\xbb\xbb", ``, "iso-2022-jp", "予算"},
	} {
		got := fileName(`a; filename="`+tt.raw+`.txt"`, tt.contentType, []string{tt.charset})
		if got != tt.want+".txt" {
			t.Errorf("%q, %s, %s: got %q, want %q", tt.raw, tt.contentType, tt.charset, got, tt.want)
		}
	}
}

// The header of a mail says what language its sender writes.
func TestRawNamesAreInTheLanguageOfTheHeader(t *testing.T) {
	const raw = "\xf9\xec\xe5\xed.txt" // words in Hebrew and in Russian
	for header, want := range map[string]string{
		"Content-Language: he-IL\r\n":                  "שלום.txt",
		"Accept-Language: he-IL, en-US\r\n":            "שלום.txt",
		"Subject: =?windows-1255?Q?=F9=EC=E5=ED?=\r\n": "שלום.txt",
		"From: =?iso-8859-8-i?Q?=F9?= <a@b.c>\r\n":     "שלום.txt",
		"Content-Language: ru\r\n":                     "щмен.txt",
		"Subject: =?windows-1251?Q?=F9?=\r\n":          "щмен.txt",
	} {
		_, files := outcome(t, header+strings.ReplaceAll(multi(abc), "a.pdf", raw))
		if len(files) != 1 || files[0].name != want {
			t.Errorf("%s: got %v, want %q", header, files, want)
		}
	}
}

func TestAttachmentsWithoutANameGetOneByTheirType(t *testing.T) {
	for mimeType, want := range map[string]string{"application/pdf": "attachment.pdf", "application/octet-stream": "attachment.bin", "x/y": "attachment"} {
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
		name := displayName(fileName(s, s, nil), "application/pdf")
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
