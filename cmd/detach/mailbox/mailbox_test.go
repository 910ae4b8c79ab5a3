package mailbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

const sample = "From: =?utf-8?q?Ada_=E2=80=A6?= <ada@example.org>\r\nTo: you@mailbox.example\r\nMessage-ID: <1@example.org>\r\n" +
	"Subject: <script>alert(1)</script>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n" +
	"--m\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n" +
	"--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe: see <https://files.example.org/bafy#z1>.\r\n" +
	"--a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hello <script>alert(2)</script></p>\r\n--a--\r\n" +
	"--m\r\nContent-Type: image/png; name=\"<b>.png\"\r\nContent-Disposition: attachment\r\n\r\nx\r\n--m--\r\n"

// deliver sends raw by SMTP to box.
func deliver(t *testing.T, box *Mailbox, raw string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	server := box.SMTP()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	c, err := smtp.Dial(l.Addr().String())
	must.Succeed(t, err)
	must.Succeed(t, c.SendMail("ada@example.org", []string{"you@mailbox.example"}, strings.NewReader(raw)))
	must.Succeed(t, c.Quit())
	must.Succeed(t, server.Close())
	<-done
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestDeliveredMailIsShownInASandbox(t *testing.T) {
	box := New(nil)
	deliver(t, box, sample)
	mail, err := box.Wait(t.Context(), "<1@example.org>")
	must.Succeed(t, err)
	if string(mail.Raw) != sample {
		t.Errorf("kept %q, want what was sent", mail.Raw)
	}
	if got := mail.Links(); len(got) != 1 || got[0] != "https://files.example.org/bafy#z1" {
		t.Errorf("links = %q, want the one, without the dot after it", got)
	}
	box.Sent("<1@example.org>", 1_500_000)

	page := get(t, box.Handler(), "/").Body.String()
	for _, want := range []string{"Ada …", "Grüße", `href="https://files.example.org/bafy#z1"`, "1.5 MB sent", "&lt;script&gt;alert(1)", "&lt;b&gt;.png", `src="/mail/1/html"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<script") {
		t.Error("the page contains a script of the mail")
	}
	if got := get(t, box.Handler(), "/mail/1/source").Body.String(); got != sample {
		t.Errorf("source = %q, want what was sent", got)
	}

	// No script in the HTML of a mail runs, and nothing is loaded.
	w := get(t, box.Handler(), "/mail/1/html")
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "sandbox allow-popups") || strings.Contains(policy, "allow-scripts") || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy = %q", policy)
	}
	if !strings.Contains(w.Body.String(), "<p>Hello") {
		t.Errorf("body = %q", w.Body)
	}
}

func TestUnknownMailIsNotFound(t *testing.T) {
	box := New(nil)
	for _, path := range []string{"/mail/1", "/mail/1/html", "/mail/x/source"} {
		if got := get(t, box.Handler(), path).Code; got != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, got)
		}
	}
	if got := get(t, box.Handler(), "/"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "No mail yet") {
		t.Errorf("empty mailbox: %d %s", got.Code, got.Body)
	}
}

func TestOldestMailIsDropped(t *testing.T) {
	box := New(nil)
	for range maxMails + 2 {
		box.deliver(&Mail{Raw: []byte("Subject: x\r\n\r\n")})
	}
	for path, want := range map[string]int{"/mail/2": http.StatusNotFound, "/mail/3": http.StatusOK} {
		if got := get(t, box.Handler(), path).Code; got != want {
			t.Errorf("%s: status %d, want %d", path, got, want)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := New(nil).Wait(ctx, "<none>"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the context's", err)
	}
}

func TestUploadedFileIsSent(t *testing.T) {
	var name, content string
	h := New(func(_ context.Context, n string, file io.Reader) error {
		b, err := io.ReadAll(file)
		name, content = n, string(b)
		return err
	}).Handler()
	post := func(origin string) int {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("file", "a.txt")
		must.Succeed(t, err)
		_, err = io.WriteString(part, "hello")
		must.Succeed(t, err)
		must.Succeed(t, form.Close())
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/send", &body)
		r.Header.Set("Content-Type", form.FormDataContentType())
		r.Header.Set("Sec-Fetch-Site", origin)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	if got := post("cross-site"); got != http.StatusForbidden || name != "" {
		t.Errorf("another site's form: status %d, name %q, want 403 and nothing sent", got, name)
	}
	if got := post("same-origin"); got != http.StatusSeeOther || name != "a.txt" || content != "hello" {
		t.Errorf("status %d, sent %q %q", got, name, content)
	}
}
