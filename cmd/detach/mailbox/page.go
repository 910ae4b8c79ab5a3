package mailbox

import (
	_ "embed"
	"html/template"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"

	"github.com/nkirchhoffer/detach-mta/internal/texts"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"size": texts.English().Size, "pieces": pieces}).Parse(pageSource))

// framePolicy is for a mail's HTML: no script runs, nothing is loaded, and links open outside.
const framePolicy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox allow-popups allow-popups-to-escape-sandbox"

const pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Handler returns the web page.
func (m *Mailbox) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", m.show)
	mux.HandleFunc("GET /mail/{number}", m.show)
	mux.HandleFunc("GET /mail/{number}/html", m.html)
	mux.HandleFunc("GET /mail/{number}/source", m.source)
	if m.sendFile != nil {
		mux.HandleFunc("POST /send", m.send)
	}
	return headers(http.NewCrossOriginProtection().Handler(mux))
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// row is a mail in the list.
type row struct {
	*Mail
	Subject, From string
	Current       bool
}

type view struct {
	List   []row
	Mail   *Mail
	Parsed parsed
	Before int64 // 0: not known
	Send   bool
}

// After is the size of the mail as it was delivered.
func (v view) After() int64 { return int64(len(v.Mail.Raw)) }

// Share returns After in percent of Before, for a bar, and at least what can be seen.
func (v view) Share() string {
	return strconv.FormatFloat(min(max(0.5, 100*float64(v.After())/float64(max(v.Before, 1))), 100), 'f', 1, 64)
}

func (m *Mailbox) show(w http.ResponseWriter, r *http.Request) {
	mails := m.Mails()
	v := view{Send: m.sendFile != nil}
	if r.PathValue("number") != "" {
		if v.Mail = m.find(w, r); v.Mail == nil {
			return
		}
	} else if len(mails) > 0 {
		v.Mail = mails[0]
	}
	if v.Mail != nil {
		v.Parsed, v.Before = parse(v.Mail.Raw), m.before(v.Mail)
	}
	for _, mail := range mails {
		p := parse(mail.Raw)
		v.List = append(v.List, row{mail, p.Subject, p.From, mail == v.Mail})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, v) // fails only if the browser has left
}

// before returns how large a mail was before Detach, or 0 if that is not known.
func (m *Mailbox) before(mail *Mail) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent[mail.messageID()]
}

func (m *Mailbox) find(w http.ResponseWriter, r *http.Request) *Mail {
	for _, mail := range m.Mails() {
		if strconv.Itoa(mail.Number) == r.PathValue("number") {
			return mail
		}
	}
	http.Error(w, "There is no such mail, or no longer.", http.StatusNotFound)
	return nil
}

func (m *Mailbox) html(w http.ResponseWriter, r *http.Request) {
	if mail := m.find(w, r); mail != nil {
		w.Header().Set("Content-Security-Policy", framePolicy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		// Without a target, links would open in the frame, where the gateway's page refuses to be
		// shown.
		_, _ = io.WriteString(w, `<base target="_blank">`+parse(mail.Raw).HTML)
	}
}

func (m *Mailbox) source(w http.ResponseWriter, r *http.Request) {
	if mail := m.find(w, r); mail != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(mail.Raw)
	}
}

// send mails an uploaded file while it arrives.
func (m *Mailbox) send(w http.ResponseWriter, r *http.Request) {
	var part *multipart.Part
	form, err := r.MultipartReader()
	if err == nil {
		part, err = form.NextPart()
	}
	if err != nil || part.FileName() == "" {
		http.Error(w, "Choose a file to send.", http.StatusBadRequest)
		return
	}
	if err := m.sendFile(r.Context(), part.FileName(), part); err != nil {
		http.Error(w, "The mail was not accepted: "+err.Error(), http.StatusBadGateway)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
