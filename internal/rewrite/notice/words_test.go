package notice

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// pushy has words, by language, that fraud uses to hurry its readers. People and spam filters
// distrust a text that has them.
var pushy = map[string][]string{
	"en": {"click here", "click below", "click the link", "download attachment", "download now", "urgent", "immediately", "act now", "verify", "confirm your",
		"validate", "expires soon", "last chance", "final notice", "hurry", "important", "attention", "warning", "free of charge", "password", "your account", "dear customer"},
	"de": {"klicken sie hier", "hier klicken", "klicken sie auf", "anhang herunterladen", "jetzt herunterladen", "dringend", "sofort", "umgehend", "bestätigen sie",
		"verifizieren", "läuft bald ab", "letzte chance", "letzte mahnung", "wichtig", "achtung", "warnung", "kostenlos", "passwort", "ihr konto", "sehr geehrte"},
	"es": {"haga clic aquí", "pulse aquí", "clic en el enlace", "descargar el archivo adjunto", "descargue ahora", "urgente", "inmediat", "actúe", "verifique", "confirme su",
		"caduca pronto", "última oportunidad", "último aviso", "importante", "atención", "advertencia", "gratis", "contraseña", "su cuenta", "estimado cliente"},
	"fr": {"cliquez ici", "cliquez sur", "cliquer ici", "télécharger la pièce jointe", "téléchargez maintenant", "urgent", "immédiat", "agissez", "vérifiez", "confirmez votre",
		"expire bientôt", "dernière chance", "dernier rappel", "important", "attention", "avertissement", "gratuit", "mot de passe", "votre compte", "cher client"},
}

var (
	shorteners = []string{"bit.ly", "tinyurl", "goo.gl", "ow.ly", "is.gd", "://t.co/"}
	shouted    = regexp.MustCompile(`\p{Lu}{4,}|!`)
	anyURL     = regexp.MustCompile(`https://\S+`)
	anyTag     = regexp.MustCompile(`<[^>]*>`)
)

// checkCalm checks that a text in a language hurries nobody.
func checkCalm(t *testing.T, code, text string) {
	t.Helper()
	for _, s := range shorteners {
		if strings.Contains(text, s) {
			t.Errorf("%s: %q in %q", code, s, text)
		}
	}
	text = anyURL.ReplaceAllString(text, "")
	if s := shouted.FindString(text); s != "" {
		t.Errorf("%s: %q in %q", code, s, text)
	}
	for _, word := range pushy[code] {
		if strings.Contains(strings.ToLower(text), word) {
			t.Errorf("%s: %q in %q", code, word, text)
		}
	}
}

// No notice and no page hurries its readers, in any language.
func TestTextsAreCalm(t *testing.T) {
	faults.Covers(t, 108)
	for _, l := range texts.All() {
		if len(pushy[l.Code]) < 20 {
			t.Errorf("%s: %d pushy words, want at least 20", l.Code, len(pushy[l.Code]))
		}
		for _, text := range l.Pages {
			checkCalm(t, l.Code, text)
		}
		for _, files := range []int{1, 2, 5} {
			for _, expires := range []time.Time{{}, time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)} {
				n := testNotice(l.Code, "report.pdf")
				n.Expires = expires
				for len(n.Files) < files {
					n.Files, n.All = append(n.Files, n.Files[0]), n.Files[0].Link
				}
				checkCalm(t, l.Code, n.text(false))
				checkCalm(t, l.Code, html.UnescapeString(anyTag.ReplaceAllString(n.html(false), "")))
			}
		}
	}
}

// In HTML no address is to be read, only names: programs compare the text of a link with its
// address.
func TestHTMLShowsNamesAndNoAddresses(t *testing.T) {
	faults.Covers(t, 108)
	n := testNotice("en", "report.pdf")
	n.Files = append(n.Files, n.Files[0])
	n.All = n.Files[0].Link
	text := html.UnescapeString(anyTag.ReplaceAllString(n.html(false), ""))
	if strings.Contains(text, "://") || strings.Count(n.html(false), "<a ") != 3 || strings.Count(text, "↓\u00a0report.pdf\u00a0 PDF, 12\u00a0KB") != 2 {
		t.Errorf("got %q", text)
	}
}

// Gmail hides what is beyond 102 KB, so the notice stands above a long text.
func TestNoticeStandsOnTopOfLongHTML(t *testing.T) {
	for size, top := range map[int]bool{maxShown - 100: false, maxShown + 1: true} {
		b := Body{HTML: true, Charset: "utf-8", Encoding: "7bit", Raw: []byte("<p>" + strings.Repeat("abcd \r\n", size/7) + "</p>")}
		_, after, ok := insertInto(t, b, testNotice("en", "report.pdf"), Bottom)
		if !ok || strings.HasPrefix(after.text, "<table") != top {
			t.Errorf("%d bytes: on top is %v, want %v", size, !top, top)
		}
	}
}

// The length counts as Gmail shows it: characters in UTF-8 without their transfer encoding, of all
// HTML texts together.
func TestLengthOfHTMLIsThatOfItsTexts(t *testing.T) {
	read := func(charset, encoding string, raw string) *Text {
		text, ok := Read(Body{HTML: true, Charset: charset, Encoding: encoding, Raw: []byte(raw)})
		if !ok {
			t.Fatalf("%s, %s: cannot be read", charset, encoding)
		}
		return text
	}
	long := read("utf-16le", "8bit", strings.Repeat("a\x00", maxShown))
	quoted := read("us-ascii", "quoted-printable", strings.Repeat("=61", maxShown))
	plain, ok := Read(Body{Charset: "utf-8", Encoding: "7bit", Raw: []byte("a")})
	if !ok {
		t.Fatal("the plain text cannot be read")
	}
	for name, tt := range map[string]struct {
		texts []*Text
		want  Position
	}{
		"UTF-16":           {[]*Text{long}, Bottom},
		"quoted-printable": {[]*Text{quoted, nil}, Bottom},
		"and plain text":   {[]*Text{plain, quoted}, Bottom},
		"one byte more":    {[]*Text{quoted, plain, read("utf-8", "7bit", "a")}, Top},
		"plain text only":  {[]*Text{plain, plain}, Bottom},
	} {
		if got := Place(tt.texts, Bottom); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
