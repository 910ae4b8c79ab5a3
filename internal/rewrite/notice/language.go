package notice

import (
	"strings"
	"sync"
	"unicode"

	"golang.org/x/text/language"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// neighbours has small words of languages for which package texts has no texts. Without these
// words, mail in such a language would be taken for mail in a similar one.
var neighbours = map[string]string{
	"it": "il lo gli della delle dei di che è un una per con non sono si nel alla anche come grazie cordiali saluti buongiorno allegato questo questa ho ma da",
	"pt": "o os as um uma não de do da dos das em no na que para com por se mas foi são é ao você obrigado segue anexo olá também muito seu sua está",
	"nl": "de het een en van ik je u niet dat die in op te zijn met voor er aan wij hij om ook als bij maar bijlage groet groeten hartelijk dank naar nog",
	"ca": "el els les i amb per que no una del dels és són adjunt salutacions gràcies però aquest aquesta al als ha hem",
	"sv": "och att det som en är på för med jag inte den vi av till har om ett hej hälsningar bifogad tack från er",
	"da": "og at det som en er på for med jeg ikke den vi af til har om et hej hilsen vedhæftet tak fra der",
	"pl": "i w na z nie do to się że jest jak dla od po w o za pozdrawiam załączeniu dziękuję dzień dobry",
	"ro": "și de la în a cu pe nu este un o care din pentru mai sunt să vă mulțumesc bună ziua atașat",
}

// ChooseLanguage chooses the notice's language: the configured one, or the one in the message's
// Content-Language (RFC 3282), or the one its text is written in.
func ChooseLanguage(configured, contentLanguage, text string) *texts.Language {
	codes := []string{configured}
	for _, tag := range strings.Split(contentLanguage, ",") {
		if t, err := language.Parse(strings.TrimSpace(tag)); err == nil {
			base, _ := t.Base()
			codes = append(codes, base.String())
		}
	}
	for _, code := range append(codes, detectLanguage(text)) {
		if l := texts.In(code); l != nil {
			return l
		}
	}
	return texts.English()
}

const (
	// maxDetect bounds the bytes of a text that are examined.
	maxDetect = 4 << 10
	// minHits, and 1.5 times the hits of every other language, are needed to be certain.
	minHits = 4
)

// detectLanguage returns the code of the language whose small words a text uses, or "" if in doubt.
func detectLanguage(text string) string {
	votes := detector()
	hits := map[string]int{}
	for _, word := range strings.FieldsFunc(strings.ToLower(sample(text)), func(r rune) bool {
		return !unicode.IsLetter(r) && r != '-'
	}) {
		for _, code := range votes[word] {
			hits[code]++
		}
	}
	best, second, code := 0, 0, ""
	for c, n := range hits {
		if n > best {
			best, second, code = n, best, c
		} else if n > second {
			second = n
		}
	}
	if best < minHits || 2*best < 3*second {
		return ""
	}
	return code
}

// sample returns the beginning of a text, without quoted lines.
func sample(text string) string {
	var b strings.Builder
	for len(text) > 0 && b.Len() < maxDetect {
		line, rest, _ := strings.Cut(text, "\n")
		if !strings.HasPrefix(line, ">") {
			b.WriteString(line[:min(len(line), maxDetect)] + "\n")
		}
		text = rest
	}
	return b.String()
}

// detector maps a small word to the codes of the languages that have it.
var detector = sync.OnceValue(func() map[string][]string {
	votes := map[string][]string{}
	for _, l := range texts.All() {
		for _, word := range l.Detect.Words {
			votes[word] = append(votes[word], l.Code)
		}
	}
	for code, list := range neighbours {
		for _, word := range strings.Fields(list) {
			votes[word] = append(votes[word], code)
		}
	}
	return votes
})
