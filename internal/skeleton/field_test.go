package skeleton

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
)

// encodedWords writes a long value as Python's email package does when it writes a header anew.
func encodedWords(value string) string {
	value = strings.NewReplacer(":", "=3A", ".", "=2E", "#", "=23").Replace(value)
	var words []string
	for len(value) > 40 {
		cut := strings.LastIndexAny(value[:40], "abcdefghijk") // not within =XX
		words, value = append(words, "=?utf-8?q?"+value[:cut]+"?="), value[cut:]
	}
	return strings.Join(append(words, "=?utf-8?q?"+value+"?="), "\r\n ")
}

// folded puts a break after every n bytes.
func folded(s string, n int, with string) string {
	var b strings.Builder
	for ; len(s) > n; s = s[n:] {
		b.WriteString(s[:n] + with)
	}
	return b.String() + s
}

func TestLinksAreFoundInTheMailsHeader(t *testing.T) {
	one, two := testLink(1), testLink(2)
	field := Field + ": " + one.URL()
	middle := len(field) - 20
	for name, tt := range map[string]struct {
		mail string
		want []link.Link
		err  error
	}{
		"as Detach writes it":     {"Subject: x\r\n" + field + "\r\n\r\ntext", []link.Link{one}, nil},
		"LF":                      {"Subject: x\n" + field + "\n\ntext", []link.Link{one}, nil},
		"first of all":            {field + "\r\nSubject: x\r\n\r\ntext", []link.Link{one}, nil},
		"an mbox line on top":     {"From a@example.org Sun Nov 22 20:00:00 2026\n" + field + "\n\ntext", []link.Link{one}, nil},
		"fields on top":           {"Return-Path: <a@b>\r\nReceived: from x\r\n\tby y\r\nSubject: x\r\n" + field + "\r\n\r\n", []link.Link{one}, nil},
		"folded after the name":   {strings.Replace(field, ": ", ":\r\n ", 1) + "\r\n\r\n", []link.Link{one}, nil},
		"folded in the middle":    {field[:middle] + "\r\n\t" + field[middle:] + "\r\n\r\n", []link.Link{one}, nil},
		"in lower case":           {"detach-restore :" + one.URL() + "\r\n\r\n", []link.Link{one}, nil},
		"in encoded words":        {Field + ": " + encodedWords(one.URL()) + "\r\n\r\n", []link.Link{one}, nil},
		"in one encoded word":     {Field + ":\n =?UTF-8?B?" + base64.StdEncoding.EncodeToString([]byte(one.URL())) + "?=\n\n", []link.Link{one}, nil},
		"half in encoded words":   {Field + ": " + one.URL()[:40] + "\r\n " + encodedWords(one.URL()[40:]) + "\r\n\r\n", []link.Link{one}, nil},
		"in an unknown charset":   {Field + ": =?klingon?q?x?=\r\n\r\n", nil, link.ErrInvalid},
		"no body":                 {"Subject: x\r\n" + field + "\r\n", []link.Link{one}, nil},
		"no line end":             {"Subject: x\r\n" + field, []link.Link{one}, nil},
		"two: the last one first": {field + "\r\n" + Field + ": " + two.URL() + "\r\n\r\n", []link.Link{two, one}, nil},
		"a bad one beside":        {field + "\r\n" + Field + ": none\r\n\r\n", []link.Link{one}, nil},
		"a malformed header":      {"this is no field\r\n\x00\xff: x\r\n" + field + "\r\n\r\n", []link.Link{one}, nil},
		"none":                    {"Subject: x\r\n\r\ntext", nil, ErrNoField},
		"in the body":             {"Subject: x\r\n\r\n" + field + "\r\n", nil, ErrNoField},
		"in another's value":      {"Subject: x\r\n " + field + "\r\n\r\n", nil, ErrNoField},
		"another name":            {"X" + field + "\r\n\r\n", nil, ErrNoField},
		"a name with more":        {strings.Replace(field, ":", "-Status:", 1) + "\r\n\r\n", nil, ErrNoField},
		"a prefix":                {"X-Original-" + field + "\r\n\r\n", []link.Link{one}, nil},
		"as formail keeps it":     {"Old-" + field + "\n" + Field + ": " + two.URL() + "\n\n", []link.Link{two, one}, nil},
		"tabs":                    {strings.Replace(field, ": ", ":\t\t", 1) + "\t\r\n\r\n", []link.Link{one}, nil},
		"folded in many places":   {Field + ":" + folded(one.URL(), 7, "\r\n ") + "\r\n\r\n", []link.Link{one}, nil},
		"folded with LF and tabs": {Field + ":" + folded(one.URL(), 40, "\n\t\t") + "\n\n", []link.Link{one}, nil},
		"broken, not indented":    {Field + ": " + folded(one.URL(), 60, "\r\n") + "\r\nSubject: x\r\n\r\n", []link.Link{one}, nil},
		"broken after the name":   {Field + ":\n" + one.URL() + "\nSubject: x\n\n", []link.Link{one}, nil},
		"soft line breaks":        {Field + ": " + folded(one.URL(), 60, "=\r\n") + "\r\nSubject: x\r\n\r\n", []link.Link{one}, nil},
		"quoted-printable":        {Field + ": " + strings.NewReplacer(":", "=3A", "/", "=2F", "#", "=23", ".", "=2E").Replace(one.URL()) + "\r\n\r\n", []link.Link{one}, nil},
		"# in quoted-printable":   {Field + ": " + strings.Replace(one.URL(), "#", "=23", 1) + "\r\n\r\n", []link.Link{one}, nil},
		"percent-encoded":         {Field + ": " + url.QueryEscape(one.URL()) + "\r\n\r\n", []link.Link{one}, nil},
		"HTML":                    {Field + ": &lt;" + strings.Replace(one.URL(), "#", "&#35;", 1) + "&gt;\r\n\r\n", []link.Link{one}, nil},
		"in brackets":             {Field + ": <" + one.URL() + ">\r\n\r\n", []link.Link{one}, nil},
		"quoted":                  {Field + ": \"" + one.URL() + "\"\r\n\r\n", []link.Link{one}, nil},
		"a comment after it":      {field + " (checked by mx.example.org)\r\n\r\n", []link.Link{one}, nil},
		"a parameter after it":    {field + "; d=example.org\r\n\r\n", []link.Link{one}, nil},
		"a tag before it":         {Field + ": [EXTERNAL] " + one.URL() + "\r\n\r\n", []link.Link{one}, nil},
		"wrapped":                 {Field + ": https://eur02.safelinks.protection.outlook.com/?url=" + url.QueryEscape(one.URL()) + "&data=05%7C02\r\n\r\n", []link.Link{one}, nil},
		"wrapped and folded":      {Field + ": " + folded("https://urldefense.com/v3/__"+strings.Replace(one.URL(), "#", "*", 1)+"__;Iw!!x!y$", 70, "\r\n ") + "\r\n\r\n", []link.Link{one}, nil},
		"words with a language":   {Field + ": =?us-ascii*en?Q?" + strings.Replace(one.URL(), ":", "=3A", 1) + "?=\r\n\r\n", []link.Link{one}, nil},
		"words that were folded":  {Field + ": =?utf-8?q?" + folded(strings.Replace(one.URL(), "#", "=23", 1), 50, "\r\n ") + "?=\r\n\r\n", []link.Link{one}, nil},
		"twice the same":          {field + "\r\n" + field + "\r\n\r\n", []link.Link{one, one}, nil},
		"a byte order mark":       {"\ufeff" + field + "\r\n\r\n", []link.Link{one}, nil},
		"a quoted mbox line":      {">From a@example.org Sun Nov 22 20:00:00 2026\n" + field + "\n\n", []link.Link{one}, nil},
		"empty mail":              {"", nil, ErrNoField},
		"cut short":               {field[:len(field)-9] + "\r\n\r\n", nil, link.ErrIncomplete},
		"no link":                 {Field + ": yes\r\n\r\n", nil, link.ErrInvalid},
		"an endless header":       {strings.Repeat(Field+":\r\n x\r\n", maxHeader/16) + field, nil, link.ErrInvalid},
	} {
		got, err := Links(strings.NewReader(tt.mail))
		if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, error %v; want %v, error %v", name, got, err, tt.want, tt.err)
		}
	}
}
