package notice

import (
	"testing"
	"time"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

// The notice says the last day on which the links work, which ends in UTC.
func TestHeading(t *testing.T) {
	for _, tt := range []struct {
		code  string
		files int
		until time.Time
		want  string
	}{
		{"en", 1, time.Time{}, "Because of its size, this attachment is kept by files.example.org:"},
		{"en", 2, time.Date(2027, 2, 2, 0, 0, 0, 0, time.UTC), "Because of their size, these 2 attachments are kept by files.example.org until 1 February 2027 (UTC):"},
		{"fr", 1, time.Date(2027, 8, 2, 0, 0, 0, 0, time.UTC), "Vu sa taille, cette pièce jointe est conservée par files.example.org jusqu’au 1er août 2027 (UTC)\u00a0:"},
		{"fr", 3, time.Time{}, "Vu leur taille, ces 3 pièces jointes sont conservées par files.example.org\u00a0:"},
		{"de", 2, time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC), "Wegen ihrer Größe liegen diese 2 Anhänge bis zum 31. März 2027 (UTC) bei files.example.org:"},
		{"es", 1, time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC), "Por su tamaño, este archivo adjunto se guarda en files.example.org hasta el 1 de enero de 2027 (UTC):"},
	} {
		n := Notice{Language: texts.In(tt.code), Operator: "files.example.org", Files: make([]File, tt.files), Expires: tt.until}
		if got := n.heading(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// A language is recognized only if it is certain. It may be one that has no notice.
func TestDetectLanguage(t *testing.T) {
	for text, want := range map[string]string{
		"Hi Bob,\n\nplease find attached the report that you asked for. It is the final version and we have not changed any of the numbers.":               "en",
		"Hallo Bob,\n\nanbei findest du den Bericht für die Sitzung. Ich habe die Zahlen noch nicht mit der Buchhaltung abgestimmt.\n\nViele Grüße":        "de",
		"Bonjour,\n\nveuillez trouver ci-joint le rapport que vous avez demandé pour la réunion. Les chiffres ne sont pas encore validés.\n\nCordialement": "fr",
		"Hola Bob,\n\nte envío el informe que pediste para la reunión. Los números todavía no están confirmados por el cliente.\n\nSaludos":                "es",
		"Buongiorno,\n\nin allegato il documento che ho fatto per la riunione con il cliente. Grazie, cordiali saluti":                                     "it",
		"Olá Bob,\n\nsegue em anexo o relatório que você pediu para a reunião. Os números ainda não foram confirmados pelo cliente. Obrigado":              "pt",
		"Hallo Bob,\n\nhierbij stuur ik je het verslag dat je voor de vergadering nodig hebt. De cijfers zijn nog niet definitief. Met vriendelijke groet": "nl",
		"ok":                         "",
		"":                           "",
		"Привет, вот отчёт.":         "",
		"> the and of to is are was": "",
	} {
		if got := detectLanguage(text); got != want {
			t.Errorf("%.30q: got %q, want %q", text, got, want)
		}
	}
}

func TestChooseLanguage(t *testing.T) {
	german := "anbei der Bericht, den Sie für die Sitzung haben wollten, mit den Zahlen und nicht ohne sie"
	for _, tt := range []struct{ configured, field, text, want string }{
		{"fr", "de", german, "fr"},
		{"auto", "fr-CA", german, "fr"},
		{"auto", "it, es-419", german, "es"},
		{"auto", "it", german, "de"},
		{"auto", "no such language!", german, "de"},
		{"auto", "", german, "de"},
		{"auto", "", "x", "en"},
	} {
		if got := ChooseLanguage(tt.configured, tt.field, tt.text).Code; got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}
