package gateway

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
)

//go:embed web
var web embed.FS

// texts is everything the pages say in one language, from web/text/LANGUAGE.json.
type texts map[string]string

// catalogue is the texts of every language there is a file for.
type catalogue struct {
	languages map[string]texts
	tags      []language.Tag
	matcher   language.Matcher
}

// loadTexts reads the files. English comes first, for those whose language there is none of.
func loadTexts() (*catalogue, error) {
	entries, err := web.ReadDir("web/text")
	if err != nil {
		return nil, err
	}
	c := &catalogue{languages: make(map[string]texts), tags: []language.Tag{language.English}}
	for _, e := range entries {
		raw, err := web.ReadFile("web/text/" + e.Name())
		if err != nil {
			return nil, err
		}
		var t texts
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		code := strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
		c.languages[code] = t
		if code != "en" {
			c.tags = append(c.tags, language.Make(code))
		}
	}
	c.matcher = language.NewMatcher(c.tags)
	return c, nil
}

// preferred are the texts in the reader's language (RFC 9110, 12.5.4).
func (c *catalogue) preferred(r *http.Request) texts {
	wanted := r.Header.Get("Accept-Language")
	if len(wanted) > maxAcceptLanguage {
		wanted = ""
	}
	_, i := language.MatchStrings(c.matcher, wanted)
	return c.languages[c.tags[i].String()]
}

// maxAcceptLanguage is more than any browser sends, and bounds what a stranger makes us parse.
const maxAcceptLanguage = 200

// Text returns the text of a key. A test holds that every key in use is there.
func (t texts) Text(key string) string { return t[key] }

// fill replaces {name} by the value that follows it.
func (t texts) fill(key string, namesAndValues ...string) string {
	pairs := make([]string, len(namesAndValues))
	for i, s := range namesAndValues {
		if i%2 == 0 {
			s = "{" + s + "}"
		}
		pairs[i] = s
	}
	return strings.NewReplacer(pairs...).Replace(t[key])
}

// size is rounded like a file manager does, in units of a thousand.
func (t texts) size(n int64) string {
	switch {
	case n == 1:
		return t["size.byte"]
	case n < 1000:
		return t.fill("size.bytes", "n", strconv.FormatInt(n, 10))
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"KB", "MB", "GB", "TB"} {
		// Below 999.5 rounding gives three digits; from there on it would say 1000.
		if value /= 1000; value < 999.5 {
			break
		}
	}
	decimals := 0
	if value < 9.95 {
		decimals = 1
	}
	s := strings.TrimSuffix(strconv.FormatFloat(value, 'f', decimals, 64), ".0")
	return strings.Replace(s, ".", t["decimal"], 1) + "\u00a0" + unit
}

// moment is a point in time as a page shows it. The script replaces Shown by the reader's own
// time zone.
type moment struct{ Before, Time, Shown, After string }

func (t texts) moment(key string, at time.Time) *moment {
	at = at.UTC()
	m := &moment{Time: at.Format(time.RFC3339)}
	if month := int(at.Month()) - 1; month < len(strings.Fields(t["months"])) {
		m.Shown = t.fill("date", "day", strconv.Itoa(at.Day()), "month", strings.Fields(t["months"])[month],
			"year", strconv.Itoa(at.Year()), "time", at.Format("15:04"))
	}
	m.Before, m.After, _ = strings.Cut(t[key], "{date}")
	return m
}
