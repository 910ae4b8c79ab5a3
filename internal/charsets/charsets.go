// Package charsets knows the charsets of mail by every name that mail programs give them.
//
// It decodes as mail programs do: by the superset that Windows made of a standard (a text in
// "iso-8859-1" may have the quotation marks of windows-1252, one in "gb2312" the characters of
// GBK). It encodes only what every decoder of the named charset reads in the same way.
//
//   - charsets.go has the names, and the encodings of golang.org/x/text.
//   - seven.go decodes the charsets of 7-bit mail that x/text does not have, and recognizes all of
//     them in bytes that look like ASCII.
//   - guess.go guesses the charset of bytes for which none is declared.
package charsets

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

const replacement = "\uFFFD"

// Name returns the usual name of a charset, in lower case, for any of its labels: "utf-8" for
// "UTF_8", "windows-1252" for "cp1252", "us-ascii" for "ANSI_X3.4-1968". For a label that is not
// known it returns the label, and for one that names no charset, such as "unknown-8bit", "".
func Name(label string) string {
	label, _, _ = strings.Cut(label, "*") // the language of an encoded word (RFC 2231 section 5)
	label = strings.ToLower(strings.Trim(label, " \t\r\n\"'"))
	if len(label) > maxLabel {
		return label
	}
	key := squeeze(label)
	for _, key := range []string{key, strings.TrimPrefix(key, "x"), strings.TrimPrefix(key, "cs")} {
		if name, ok := names[key]; ok {
			return name
		}
		if m := codePage.FindStringSubmatch(key); m != nil && codePages[m[1]] != "" {
			return codePages[m[1]]
		}
		if m := iso8859.FindStringSubmatch(key); m != nil {
			return "iso-8859-" + m[1]
		}
	}
	return label
}

// maxLabel is the length of the longest label that is looked up. The registered ones have up to 45
// bytes.
const maxLabel = 64

// squeeze keeps letters and digits. Senders leave out the other characters of a label, or write
// others.
func squeeze(label string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, label)
}

var (
	codePage = regexp.MustCompile(`^(?:cp|win|windows|ms|mscp|ansi|ibm|oem|dos|codepage)?0*(\d{3,5})$`)
	iso8859  = regexp.MustCompile(`^(?:iso)?8859p?0?([1-9]|1[0-6])[ie]?(?:\d{4})?$`)
)

// codePages has the charsets by their numbers in Windows
// (https://learn.microsoft.com/windows/win32/intl/code-page-identifiers).
var codePages = map[string]string{
	"437": "ibm437", "850": "ibm850", "852": "ibm852", "855": "ibm855", "858": "ibm00858", "860": "ibm860", "862": "ibm862",
	"863": "ibm863", "865": "ibm865", "866": "ibm866", "874": "windows-874", "932": "windows-31j", "936": "gbk", "949": "windows-949",
	"950": "big5", "951": "big5", "1200": "utf-16le", "1201": "utf-16be", "1250": "windows-1250", "1251": "windows-1251",
	"1252": "windows-1252", "1253": "windows-1253", "1254": "windows-1254", "1255": "windows-1255", "1256": "windows-1256",
	"1257": "windows-1257", "1258": "windows-1258", "10000": "macintosh", "10007": "x-mac-cyrillic", "20127": "us-ascii",
	"20866": "koi8-r", "20932": "euc-jp", "20936": "gb2312", "21866": "koi8-u", "28591": "iso-8859-1", "28592": "iso-8859-2",
	"28593": "iso-8859-3", "28594": "iso-8859-4", "28595": "iso-8859-5", "28596": "iso-8859-6", "28597": "iso-8859-7",
	"28598": "iso-8859-8", "28599": "iso-8859-9", "28603": "iso-8859-13", "28605": "iso-8859-15", "38598": "iso-8859-8",
	"50220": "iso-2022-jp", "50221": "iso-2022-jp", "50222": "iso-2022-jp", "50225": "iso-2022-kr", "50227": "iso-2022-cn",
	"51932": "euc-jp", "51936": "gb2312", "51949": "euc-kr", "52936": "hz-gb-2312", "54936": "gb18030", "65000": "utf-7", "65001": "utf-8",
}

// names has the charsets by their squeezed labels, where neither a number nor x/text knows them.
var names = map[string]string{
	"utf8": "utf-8", "utf8n": "utf-8", "utf8mb4": "utf-8", "unicode11utf8": "utf-8", "unicode20utf8": "utf-8", "xutf8j": "utf-8",
	"utf16": "utf-16", "utf16be": "utf-16be", "utf16le": "utf-16le", "utf7": "utf-7", "unicode11utf7": "utf-7", "unicode20utf7": "utf-7",
	"ascii": "us-ascii", "usascii": "us-ascii", "ansix341968": "us-ascii", "ansix341986": "us-ascii", "iso646us": "us-ascii", "646": "us-ascii",
	"iso646irv1991": "us-ascii", "us": "us-ascii", "ascii7": "us-ascii", "7bit": "us-ascii",
	"latin1": "iso-8859-1", "isolatin1": "iso-8859-1", "latin2": "iso-8859-2", "isolatin2": "iso-8859-2", "latin5": "iso-8859-9", "isolatin5": "iso-8859-9", "latin9": "iso-8859-15", "ansix31101983": "iso-8859-1",
	"macintosh": "macintosh", "mac": "macintosh", "macroman": "macintosh", "maccyrillic": "x-mac-cyrillic",
	"koi8": "koi8-r", "koi8r": "koi8-r", "koi8u": "koi8-u", "koi8ru": "koi8-u", "win": "windows-1251", "tis620": "iso-8859-11", "tis6202533": "iso-8859-11",
	"gb2312": "gb2312", "gb231280": "gb2312", "euccn": "gb2312", "cngb": "gb2312", "eucgb2312cn": "gb2312", "gb": "gb2312",
	"gbk": "gbk", "gb18030": "gb18030", "hz": "hz-gb-2312", "hzgb2312": "hz-gb-2312", "hzgb": "hz-gb-2312",
	"big5": "big5", "bigfive": "big5", "cnbig5": "big5", "big5eten": "big5", "big5tw": "big5", "big5hkscs": "big5-hkscs",
	"shiftjis": "shift_jis", "sjis": "shift_jis", "mskanji": "shift_jis", "windows31j": "windows-31j", "win31j": "windows-31j", "sjiswin": "windows-31j",
	"eucjp": "euc-jp", "ujis": "euc-jp", "eucjpms": "euc-jp", "eucjpwin": "euc-jp",
	"jis": "iso-2022-jp", "iso2022jp": "iso-2022-jp", "iso2022jp1": "iso-2022-jp", "iso2022jp2": "iso-2022-jp", "iso2022jp3": "iso-2022-jp",
	"iso2022jp2004": "iso-2022-jp", "iso2022jpms": "iso-2022-jp",
	"euckr": "euc-kr", "ksc5601": "euc-kr", "ksc56011987": "euc-kr", "ksc56011989": "euc-kr", "ksx1001": "euc-kr", "korean": "euc-kr",
	"uhc": "windows-949", "iso2022kr": "iso-2022-kr", "iso2022cn": "iso-2022-cn",
	"unknown8bit": "", "unknown": "", "8bit": "", "default": "", "defaultcharset": "", "none": "", "null": "", "binary": "", "charset": "",
}

// A Charset decodes and encodes text. The zero value is not usable.
type Charset struct {
	decoding, encoding encoding.Encoding
	common             func(encoded []byte) bool // reports whether every decoder reads it in the same way; nil: always
}

// Find returns the charset of a label. It knows the charsets of one or more bytes for each
// character; the caller must know UTF-8, UTF-16 and ASCII itself.
func Find(label string) (Charset, bool) {
	switch name := Name(label); name {
	case "iso-8859-1":
		return Charset{decoding: charmap.Windows1252, encoding: charmap.ISO8859_1}, true
	case "iso-8859-9":
		return Charset{decoding: charmap.Windows1254, encoding: charmap.ISO8859_9}, true
	case "iso-8859-11":
		return superset(charmap.Windows874, noneOfC1)
	case "gb2312":
		return superset(simplifiedchinese.GB18030, pairs(inGB2312))
	case "gbk":
		return superset(simplifiedchinese.GB18030, pairsOfGBK)
	case "hz-gb-2312":
		return superset(simplifiedchinese.HZGB2312, pairsOfHZ)
	case "euc-kr":
		return superset(named("euc-kr"), pairs(inKSX1001))
	case "windows-949":
		return same(named("euc-kr"))
	case "shift_jis":
		return superset(japanese.ShiftJIS, pairsOfJIS)
	case "windows-31j":
		return same(japanese.ShiftJIS)
	case "euc-jp":
		return superset(japanese.EUCJP, pairs(inJISX0208))
	case "iso-2022-jp":
		return superset(japanese.ISO2022JP, escapesOfJIS)
	case "big5":
		return superset(named("big5"), pairsOfBig5)
	case "big5-hkscs":
		return same(named("big5"))
	case "", "utf-7", "utf-8", "utf-16", "utf-16be", "utf-16le", "us-ascii", "x-user-defined":
		return Charset{}, false
	default:
		return byIndex(name)
	}
}

// Known reports whether the label names a charset that Decode knows.
func Known(label string) bool {
	_, known, _ := Decode(label, "")
	return known
}

func same(e encoding.Encoding) (Charset, bool) { return Charset{decoding: e, encoding: e}, e != nil }

func superset(e encoding.Encoding, common func([]byte) bool) (Charset, bool) {
	return Charset{e, e, common}, e != nil
}

// named returns the encoding that HTML has by a name, or nil.
func named(name string) encoding.Encoding {
	e, err := htmlindex.Get(name)
	if err != nil || e == encoding.Replacement {
		return nil
	}
	return e
}

func byIndex(name string) (Charset, bool) {
	if e, err := ianaindex.MIME.Encoding(name); err == nil && e != nil && e != unicode.UTF8 {
		return same(e)
	}
	e := named(name)
	if e == nil || e == unicode.UTF8 {
		return Charset{}, false
	}
	canonical, err := htmlindex.Name(e)
	c, ok := same(e)
	return c, ok && err == nil && canonical != "x-user-defined"
}

// NewDecoder returns a decoder to UTF-8.
func (c Charset) NewDecoder() *encoding.Decoder { return c.decoding.NewDecoder() }

// SingleByte reports whether each character is one byte.
func (c Charset) SingleByte() bool {
	_, ok := c.decoding.(*charmap.Charmap)
	return ok
}

// Decode returns the text, with U+FFFD for invalid bytes, and whether there are none.
func (c Charset) Decode(b []byte) (text string, clean bool) {
	decoded, err := c.NewDecoder().Bytes(b)
	return string(decoded), err == nil && !bytes.Contains(decoded, []byte(replacement))
}

// Encode returns the text in the charset; ok is false if the charset lacks a character.
func (c Charset) Encode(text string) (encoded []byte, ok bool) {
	encoded, err := c.encoding.NewEncoder().Bytes([]byte(text))
	if err != nil || c.common != nil && !c.common(encoded) {
		return nil, false
	}
	return encoded, true
}

// Decode decodes s, which is in the charset of the label. known reports whether the label names a
// charset, and clean whether s is valid in it. The text has U+FFFD for invalid bytes.
func Decode(label, s string) (text string, known, clean bool) {
	switch name := Name(label); name {
	case "":
		return s, false, false
	case "utf-8":
		return strings.ToValidUTF8(strings.TrimPrefix(s, "\uFEFF"), replacement), true, utf8.ValidString(s)
	case "us-ascii":
		return strings.ToValidUTF8(s, replacement), true, isASCII(s)
	case "utf-7":
		text, clean = decodeUTF7(s)
		return text, true, clean
	case "iso-2022-kr", "iso-2022-cn":
		text, clean = decodeShifted(s)
		return text, true, clean
	case "utf-16", "utf-16be", "utf-16le":
		return decodeUTF16(name, s)
	default:
		c, ok := Find(name)
		if !ok {
			return s, false, false
		}
		text, clean = c.Decode([]byte(s))
		return text, true, clean
	}
}

// decodeUTF16 decodes UTF-16. Without a byte order mark it is big-endian (RFC 2781 section 4.3).
func decodeUTF16(name, s string) (text string, known, clean bool) {
	order := unicode.BigEndian
	if name == "utf-16le" {
		order = unicode.LittleEndian
	}
	decoded, err := unicode.UTF16(order, unicode.UseBOM).NewDecoder().String(s)
	return decoded, true, err == nil && !strings.Contains(decoded, replacement)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, isHigh)
}

// pairs returns a function that reports whether all bytes beyond ASCII are the first of pairs that
// are valid.
func pairs(valid func(a, b byte) bool) func([]byte) bool {
	return func(encoded []byte) bool {
		for i := 0; i < len(encoded); i++ {
			if encoded[i] < utf8.RuneSelf {
				continue
			}
			if i+1 == len(encoded) || !valid(encoded[i], encoded[i+1]) {
				return false
			}
			i++
		}
		return true
	}
}

var (
	// pairsOfGBK excludes the characters that only GB18030 has: those of four bytes, whose second
	// byte is a digit, and some of two.
	pairsOfGBK = pairs(func(a, b byte) bool {
		return b >= 0x40 && a != 0xFE && (a != 0xA2 || b != 0xE3) && (a != 0xA6 || b < 0xD9) && (a != 0xA8 || b != 0xBF) && (a != 0xA9 || b < 0x89)
	})
	// pairsOfJIS excludes the characters of NEC and IBM in windows-31j.
	pairsOfJIS = pairs(func(a, b byte) bool {
		return a <= 0x84 || 0x88 <= a && a <= 0x9F || 0xE0 <= a && a <= 0xEA
	})
	// pairsOfBig5 excludes the characters that Hong Kong and ETEN added.
	pairsOfBig5 = pairs(func(a, b byte) bool {
		return 0xA1 <= a && a < 0xC6 && (a != 0xA3 || b < 0xC0) || a == 0xC6 && b < 0xA1 || 0xC9 <= a && a < 0xF9 || a == 0xF9 && b <= 0xD5
	})
)

// inKSX1001 excludes the syllables that windows-949 added, and the filler, which stands for
// nothing.
func inKSX1001(a, b byte) bool { return a >= 0xA1 && b >= 0xA1 && (a != 0xA4 || b != 0xD4) }

// inJISX0208 excludes the characters of NEC and IBM, and those of JIS X 0212, which have three
// bytes.
func inJISX0208(a, b byte) bool {
	return 0xA1 <= a && a <= 0xF4 && (a <= 0xA8 || a >= 0xB0) || a == 0x8E
}

// inGB2312 excludes the characters that GBK and GB18030 added, some of them in the gaps of GB 2312.
func inGB2312(a, b byte) bool {
	switch {
	case b < 0xA1:
		return false
	case a == 0xA1:
		return b != 0xA4 && b != 0xAA // decoders differ
	case a == 0xA2:
		return b >= 0xB1 && b != 0xE3
	case a == 0xA8:
		return b <= 0xBA || b >= 0xC5
	}
	return 0xA1 <= a && a <= 0xA9 || 0xB0 <= a && a <= 0xF7
}

// pairsOfHZ reports whether inGB2312 is true for all pairs of bytes in HZ.
func pairsOfHZ(encoded []byte) bool {
	double := false
	for i := 0; i+1 < len(encoded); i += 2 {
		switch {
		case encoded[i] == '~' && (encoded[i+1] == '{' || encoded[i+1] == '}'):
			double = encoded[i+1] == '{'
		case encoded[i] == '~':
		case !double:
			i--
		case !inGB2312(encoded[i]|0x80, encoded[i+1]|0x80):
			return false
		}
	}
	return true
}

// noneOfC1 reports whether all bytes are in ASCII or from 0xA1 on.
func noneOfC1(encoded []byte) bool {
	for _, c := range encoded {
		if 0x80 <= c && c <= 0xA0 {
			return false
		}
	}
	return true
}

// escapesOfJIS excludes the characters of NEC, which decoders of RFC 1468 do not know, and the
// escape sequence of half-width katakana.
func escapesOfJIS(encoded []byte) bool {
	double := false
	for i := 0; i < len(encoded); i++ {
		switch {
		case encoded[i] == 0x1B:
			if bytes.HasPrefix(encoded[i:], []byte("\x1b(I")) {
				return false
			}
			double = i+1 < len(encoded) && encoded[i+1] == '$'
			i += 2
		case double:
			if encoded[i] > 0x28 && encoded[i] < 0x30 || encoded[i] > 0x74 {
				return false
			}
			i++
		}
	}
	return true
}
