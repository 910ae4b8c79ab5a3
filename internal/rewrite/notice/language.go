package notice

import (
	"embed"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// fallback is the language of a notice when nothing says which to choose.
const fallback = "en"

// Words are a language's texts for the notice. languages/en.toml explains them.
type Words struct {
	tag          language.Tag
	Heading      map[string]string `toml:"heading"`
	HeadingUntil map[string]string `toml:"heading_until"`
	All          map[string]string `toml:"all"`
	Bytes        map[string]string `toml:"bytes"`
	Size         struct {
		DecimalSign string `toml:"decimal_sign"`
		Kilobytes   string `toml:"kilobytes"`
		Megabytes   string `toml:"megabytes"`
		Gigabytes   string `toml:"gigabytes"`
	} `toml:"size"`
	Date struct {
		Format string   `toml:"format"`
		First  string   `toml:"first"`
		Months []string `toml:"months"`
	} `toml:"date"`
	Detect struct {
		Words []string `toml:"words"`
	} `toml:"detect"`
}

//go:embed languages/*.toml
var catalogueFiles embed.FS

// catalogue is every language there is a file for.
var catalogue = sync.OnceValue(func() map[string]*Words {
	all := map[string]*Words{}
	files, err := catalogueFiles.ReadDir("languages")
	for _, f := range files {
		code := strings.TrimSuffix(f.Name(), ".toml")
		w := &Words{tag: language.Make(code)}
		if _, err = toml.DecodeFS(catalogueFiles, "languages/"+f.Name(), w); err != nil {
			break
		}
		all[code] = w
	}
	if err != nil {
		panic(err) // the files are part of the program
	}
	return all
})

// neighbours are small words of languages that there is no file for. Their texts
// would be taken for one that there is.
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

// ChooseLanguage chooses the notice's language: as configured, or by the value of the message's
// Content-Language (RFC 3282), or by what its text is written in.
func ChooseLanguage(configured, contentLanguage, text string) *Words {
	all := catalogue()
	if w, ok := all[configured]; ok {
		return w
	}
	for _, tag := range strings.Split(contentLanguage, ",") {
		t, err := language.Parse(strings.TrimSpace(tag))
		if err != nil {
			continue
		}
		base, _ := t.Base()
		if w, ok := all[base.String()]; ok {
			return w
		}
	}
	if w, ok := all[detectLanguage(text)]; ok {
		return w
	}
	return all[fallback]
}

const (
	// maxDetect is how much of a text is looked at: its language shows early.
	maxDetect = 4 << 10
	// minHits and a lead of half as many again make a language sure.
	minHits = 4
)

// detectLanguage is the language whose small words a text is full of, or "".
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

// sample is the beginning of a text, without what it quotes.
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

// detector says of which languages a word is a sign.
var detector = sync.OnceValue(func() map[string][]string {
	votes := map[string][]string{}
	for code, w := range catalogue() {
		for _, word := range w.Detect.Words {
			votes[word] = append(votes[word], code)
		}
	}
	for code, list := range neighbours {
		for _, word := range strings.Fields(list) {
			votes[word] = append(votes[word], code)
		}
	}
	return votes
})

var forms = map[plural.Form]string{
	plural.Other: "other", plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many",
}

// form is the one of texts that a number goes with.
func (w *Words) form(texts map[string]string, n int) string {
	form := plural.Cardinal.MatchPlural(w.tag, n, 0, 0, 0, 0)
	if text, ok := texts[forms[form]]; ok {
		return text
	}
	return texts["other"]
}

func (w *Words) day(t time.Time) string {
	day := fmt.Sprint(t.Day())
	if t.Day() == 1 {
		day = w.Date.First
	}
	return strings.NewReplacer("{day}", day, "{month}", w.Date.Months[t.Month()-1], "{year}", fmt.Sprint(t.Year())).Replace(w.Date.Format)
}

// size says a number of bytes as people do, in powers of 1,000.
func (w *Words) size(bytes int64) string {
	if bytes < 1000 {
		return strings.ReplaceAll(w.form(w.Bytes, int(bytes)), "{n}", fmt.Sprint(bytes))
	}
	units := []string{w.Size.Kilobytes, w.Size.Megabytes, w.Size.Gigabytes}
	v, unit := float64(bytes)/1000, 0
	for v >= 999.5 && unit < len(units)-1 {
		v, unit = v/1000, unit+1
	}
	n := fmt.Sprintf("%.0f", v)
	if v < 9.95 {
		n = strings.Replace(fmt.Sprintf("%.1f", v), ".", w.Size.DecimalSign, 1)
	}
	return strings.ReplaceAll(units[unit], "{n}", n)
}
