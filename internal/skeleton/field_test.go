package skeleton

import (
	"encoding/base64"
	"errors"
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
		"another name":            {"X-" + field + "\r\n\r\n", nil, ErrNoField},
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
