package rewrite

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// A notice is what stands in a mail in place of its attachments.
type notice struct {
	words   words
	files   []cut
	expires time.Time // zero: never
}

// Words are a language's texts for the notice.
type words struct {
	one, many           string // heading for one attachment, and for several: %d
	oneUntil, manyUntil string // what follows it; %s is a date
	units               [4]string
	decimal             string
	months              [12]string
	date                string // day, month, year
}

var languages = map[string]words{
	"en": {
		one: "Attachment", many: "%d attachments",
		oneUntil: "available until %s", manyUntil: "available until %s",
		units: [4]string{"bytes", "KB", "MB", "GB"}, decimal: ".", date: "%d %s %d",
		months: [12]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
	},
	"fr": {
		one: "Pièce jointe", many: "%d pièces jointes",
		oneUntil: "disponible jusqu’au %s", manyUntil: "disponibles jusqu’au %s",
		units: [4]string{"octets", "Ko", "Mo", "Go"}, decimal: ",", date: "%d %s %d",
		months: [12]string{"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"},
	},
	"de": {
		one: "Anhang", many: "%d Anhänge",
		oneUntil: "abrufbar bis %s", manyUntil: "abrufbar bis %s",
		units: [4]string{"Byte", "KB", "MB", "GB"}, decimal: ",", date: "%d. %s %d",
		months: [12]string{"Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"},
	},
	"es": {
		one: "Archivo adjunto", many: "%d archivos adjuntos",
		oneUntil: "disponible hasta el %s", manyUntil: "disponibles hasta el %s",
		units: [4]string{"bytes", "KB", "MB", "GB"}, decimal: ",", date: "%d de %s de %d",
		months: [12]string{"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"},
	},
}

// language chooses the notice's language: as configured, or by the message's
// Content-Language (RFC 3282), or English.
func language(configured string, h *header) words {
	if w, ok := languages[configured]; ok {
		return w
	}
	value, _ := h.one("Content-Language")
	primary, _, _ := strings.Cut(strings.ToLower(value), "-")
	primary, _, _ = strings.Cut(primary, ",")
	if w, ok := languages[strings.TrimSpace(primary)]; ok {
		return w
	}
	return languages["en"]
}

func (n *notice) heading() string {
	h, until := n.words.one, n.words.oneUntil
	if len(n.files) > 1 {
		h, until = fmt.Sprintf(n.words.many, len(n.files)), n.words.manyUntil
	}
	if !n.expires.IsZero() {
		day := fmt.Sprintf(n.words.date, n.expires.Day(), n.words.months[n.expires.Month()-1], n.expires.Year())
		h += ", " + fmt.Sprintf(until, day)
	}
	return h
}

// size says a number of bytes as people do, in powers of 1,000.
func (w *words) size(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d %s", bytes, w.units[0])
	}
	v, unit := float64(bytes)/1000, 1
	for v >= 999.5 && unit < len(w.units)-1 {
		v, unit = v/1000, unit+1
	}
	if v >= 9.95 {
		return fmt.Sprintf("%.0f %s", v, w.units[unit])
	}
	return strings.Replace(fmt.Sprintf("%.1f %s", v, w.units[unit]), ".", w.decimal, 1)
}

// text is the notice in plain text, its lines parted by \n, each link on a line
// of its own.
func (n *notice) text() string {
	var b strings.Builder
	b.WriteString(n.heading() + ":")
	for _, f := range n.files {
		fmt.Fprintf(&b, "\n\n%s (%s)\n%s", f.name, n.words.size(f.size), f.link.URL())
	}
	return b.String()
}

// html is the notice in HTML, in ASCII, so that it can stand in any charset.
// Colours come from the mail around it, and so follow a dark mode; what can be
// clicked shows where it leads.
func (n *notice) html() string {
	var b strings.Builder
	b.WriteString(`<div style="margin:1em 0;padding:.7em 1em;border:1px solid #888;border-radius:6px">` + "\n")
	fmt.Fprintf(&b, "%s:\n", asciiHTML(n.heading()))
	for _, f := range n.files {
		url := asciiHTML(f.link.URL())
		fmt.Fprintf(&b, "<p style=\"margin:.7em 0 0\"><b><bdi>%s</bdi></b> (%s)<br>\n<a style=\"word-break:break-all\" href=\"%s\">%s</a></p>\n",
			asciiHTML(f.name), asciiHTML(n.words.size(f.size)), url, url)
	}
	b.WriteString("</div>")
	return b.String()
}

func asciiHTML(s string) string {
	var b strings.Builder
	for _, r := range html.EscapeString(s) {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}
