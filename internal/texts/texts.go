// Package texts has all texts that people read in mails and on pages, in each language. The
// invariant: every language has all texts that English has, with the same values to fill in.
//
// Each language has a file, languages/CODE.toml; en.toml explains its entries. Configuration,
// notice and pages offer the languages that [All] returns.
package texts

import (
	"embed"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// A Language has the texts of one language. It is safe for concurrent use.
type Language struct {
	Code string `toml:"-"`   // ISO 639-1
	Dir  string `toml:"dir"` // the direction of writing, as HTML's dir

	Heading      Forms `toml:"heading"`
	HeadingUntil Forms `toml:"heading_until"`
	All          Forms `toml:"all"`
	Bytes        Forms `toml:"bytes"`

	// Kinds has words for kinds of files by the first half of their media type.
	Kinds map[string]string `toml:"kinds"`

	Units struct {
		DecimalSign string   `toml:"decimal_sign"`
		Names       []string `toml:"units"` // 1,000 bytes, 1,000 times that, and so on
	} `toml:"size"`
	Date struct {
		Day    string   `toml:"day"`
		First  string   `toml:"first"`
		Months []string `toml:"months"`
	} `toml:"date"`
	// Detect has the words by which texts in this language are recognized.
	Detect struct {
		Words []string `toml:"words"`
	} `toml:"detect"`
	// Pages has the texts of the gateway's pages by their keys.
	Pages map[string]string `toml:"pages"`

	tag language.Tag
}

// Forms has a text in each plural form of the language, by the form's name in CLDR.
type Forms map[string]string

//go:embed languages/*.toml
var files embed.FS

// All returns the languages: English first, then the others in the order of their codes. The caller
// must not change them.
var All = sync.OnceValue(func() []*Language {
	entries, err := files.ReadDir("languages")
	var all []*Language
	for _, e := range entries {
		code := strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
		l := &Language{Code: code, tag: language.Make(code)}
		if _, err = toml.DecodeFS(files, "languages/"+e.Name(), l); err != nil {
			break
		}
		if code == "en" {
			all = slices.Insert(all, 0, l)
		} else {
			all = append(all, l)
		}
	}
	if err != nil {
		panic(err) // the files are part of the program
	}
	return all
})

// English returns the language of the command line, and of people whose own language has no file.
func English() *Language { return All()[0] }

// In returns the language with this code, or nil if it has no file.
func In(code string) *Language {
	for _, l := range All() {
		if l.Code == code {
			return l
		}
	}
	return nil
}

var matcher = sync.OnceValue(func() language.Matcher {
	var tags []language.Tag
	for _, l := range All() {
		tags = append(tags, l.tag)
	}
	return language.NewMatcher(tags)
})

// maxAcceptLanguage is more than any browser sends. It bounds the parsing of a stranger's input.
const maxAcceptLanguage = 200

// Preferred returns the language that fits the value of Accept-Language best (RFC 9110 section
// 12.5.4), or English.
func Preferred(accept string) *Language {
	if len(accept) > maxAcceptLanguage {
		return English()
	}
	_, i := language.MatchStrings(matcher(), accept)
	return All()[i]
}

// Text returns the text of the pages with this key. A test checks that every key in use exists.
func (l *Language) Text(key string) string { return l.Pages[key] }

var formNames = map[plural.Form]string{
	plural.Other: "other", plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many",
}

// Form returns the text in the plural form for n.
func (l *Language) Form(texts Forms, n int) string {
	if text, ok := texts[l.formName(n)]; ok {
		return text
	}
	return texts["other"]
}

func (l *Language) formName(n int) string {
	return formNames[plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0)]
}

// Day returns the date of t, in t's time zone.
func (l *Language) Day(t time.Time) string {
	day := strconv.Itoa(t.Day())
	if t.Day() == 1 {
		day = l.Date.First
	}
	return strings.NewReplacer("{day}", day, "{month}", l.Date.Months[t.Month()-1], "{year}", strconv.Itoa(t.Year())).Replace(l.Date.Day)
}

// LastDay returns the last day, in UTC, before the end of a file: at 00:00 UTC on the day after it.
// People read it in the mail's notice and on the file's page.
func LastDay(end time.Time) time.Time { return end.UTC().Add(-time.Nanosecond) }

// Size returns a number of bytes as file managers write it: in units of a thousand, with one
// decimal below ten. The script of the pages has the same rules (gateway/web/all.js).
func (l *Language) Size(n int64) string {
	if n < 1000 {
		return strings.ReplaceAll(l.Form(l.Bytes, int(n)), "{n}", strconv.FormatInt(n, 10))
	}
	v, unit := float64(n)/1000, 0
	for v >= 999.5 && unit < len(l.Units.Names)-1 { // it would be rounded to 1000
		v, unit = v/1000, unit+1
	}
	number := fmt.Sprint(math.Round(v))
	if v < 9.95 {
		number = strings.Replace(fmt.Sprint(math.Round(v*10)/10), ".", l.Units.DecimalSign, 1)
	}
	return strings.ReplaceAll(l.Units.Names[unit], "{n}", number)
}
