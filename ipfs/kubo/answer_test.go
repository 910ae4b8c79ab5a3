package kubo_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/ipfs/kubo"
)

// goodStats is the right answer to an import of 3 MiB.
const goodStats = `{"Stats":{"BlockCount":4,"BlockBytesCount":3145909}}`

// lateError answers 200 and then fails.
func lateError(body, reason string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer(http.StatusOK, body)(w, r)
		flush(w)
		w.Header().Set("X-Stream-Error", reason)
	}
}

// cut answers and then closes the connection.
func cut(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer(http.StatusOK, body)(w, r)
		flush(w)
		panic(http.ErrAbortHandler)
	}
}

// raw writes directly to the connection.
func raw(write func(w *bufio.ReadWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		write(rw)
		rw.Flush()
	}
}

// endless repeats a line while the client reads, up to 10 GB.
func endless(line string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		lines := strings.Repeat(line, 1+32<<10/len(line))
		for n := 0; n < 10e9; n += len(lines) {
			if _, err := io.WriteString(w, lines); err != nil {
				return
			}
		}
	}
}

func redirect(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.example/api/v0/elsewhere", status)
	}
}

func reset(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }

const noSpace = `{"Message":"committing batch to datastore: no space left on device","Code":0,"Type":"error"}`

// wrongAnswers are wrong answers to any command.
func wrongAnswers() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{
		"no result":       answer(http.StatusOK, ""),
		"not JSON":        answer(http.StatusOK, "Imported 4 blocks"),
		"HTML":            typed("text/html; charset=utf-8", http.StatusOK, "<html>Please log in</html>"),
		"no type":         typed("", http.StatusOK, goodStats),
		"500":             answer(http.StatusInternalServerError, noSpace),
		"500 without why": answer(http.StatusInternalServerError, "{}"),
		"500 of no type":  typed("", http.StatusInternalServerError, noSpace),
		"502 in HTML":     typed("text/html", http.StatusBadGateway, "<html>nginx</html>"),
		"404":             typed("text/plain", http.StatusNotFound, "404 page not found"),
		"204":             answer(http.StatusNoContent, ""),
		"reset":           reset,
		"cut in the head": raw(func(w *bufio.ReadWriter) { w.WriteString("HTTP/1.1 200 OK\r\nContent-Ty") }),
		"no HTTP":         raw(func(w *bufio.ReadWriter) { w.WriteString("220 mail.example ESMTP\r\n") }),
		"endless":         endless("{}\n"),
		"endless value":   endless("["),
		"endless string":  endless(`"` + strings.Repeat("x", 1000)),
		"endless blanks":  endless(" "),
		"endless 500":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); endless(" ")(w, r) },
		"endless header": raw(func(w *bufio.ReadWriter) {
			w.WriteString("HTTP/1.1 200 OK\r\n")
			for i := 0; i < 10e9; i++ {
				if _, err := fmt.Fprintf(w, "X-%d: x\r\n", i); err != nil {
					return
				}
			}
		}),
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		all[fmt.Sprintf("redirect %d", status)] = redirect(status)
	}
	return all
}

// A bad answer to an import is an error, and nothing is pinned.
func TestBadImportAnswerPinsNothing(t *testing.T) {
	faults.Covers(t, 41, 42)
	scripts := map[string]http.HandlerFunc{
		"error in the trailer":      lateError(goodStats, "multipart: NextPart: EOF"),
		"error in the trailer only": lateError("", "no space left on device"),
		"two results":               answer(http.StatusOK, goodStats+"\n"+goodStats),
		"two results in one":        answer(http.StatusOK, strings.TrimSuffix(goodStats, "}")+`,"Root":{}}`+goodStats),
		"a block fewer":             answer(http.StatusOK, strings.Replace(goodStats, ":4", ":3", 1)),
		"a block more":              answer(http.StatusOK, strings.Replace(goodStats, ":4", ":5", 1)),
		"a byte fewer":              answer(http.StatusOK, strings.Replace(goodStats, "909", "908", 1)),
		"a byte more":               answer(http.StatusOK, strings.Replace(goodStats, "909", "910", 1)),
		"nothing taken":             answer(http.StatusOK, `{"Stats":{"BlockCount":0,"BlockBytesCount":0}}`),
		"less than nothing":         answer(http.StatusOK, strings.Replace(goodStats, ":4", ":-4", 1)),
		"a root":                    answer(http.StatusOK, `{"Root":{"Cid":{"/":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}}}`+goodStats),
		"no stats":                  answer(http.StatusOK, "{}"),
		"junk after the result":     answer(http.StatusOK, goodStats+"}"),
		"cut in the result":         cut(goodStats[:20]),
		"cut after the result":      cut(goodStats),
		"cut by its length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answer(http.StatusOK, goodStats)(w, r)
		},
	}
	maps.Copy(scripts, wrongAnswers())
	for name, h := range scripts {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]http.HandlerFunc{"dag/import": h}, func(t *testing.T, b *bubbled) {
				b.unavailable(b.put(t.Context(), 3<<20), 0)
				b.mustNotCall("pin/add", "elsewhere")
				b.mustNotRead()
			})
		})
	}
}

// After a bad answer to a pin, the pin may exist: Put unpins.
func TestBadPinAnswerIsTakenBack(t *testing.T) {
	faults.Covers(t, 41, 42)
	pins := func(format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			answer(200, strings.ReplaceAll(format, "CID", r.URL.Query().Get("arg")))(w, r)
		}
	}
	scripts := map[string]http.HandlerFunc{
		"error in the trailer": func(w http.ResponseWriter, r *http.Request) {
			lateError(`{"Pins":["`+r.URL.Query().Get("arg")+`"]}`, "merkledag: not found")(w, r)
		},
		"other CID":        answer(http.StatusOK, `{"Pins":["bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"]}`),
		"another CID, too": pins(`{"Pins":["CID","bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"]}`),
		"twice":            pins(`{"Pins":["CID","CID"]}`),
		"in two lines":     pins(`{"Pins":["CID"]}{"Pins":["CID"]}`),
		"progress alone":   answer(http.StatusOK, `{"Progress":4}`),
		"no pin":           answer(http.StatusOK, `{"Pins":[]}`),
		"cut":              cut(`{"Progress":4}`),
		"blocks are gone":  answer(http.StatusInternalServerError, `{"Message":"block was not found locally (offline)","Code":0,"Type":"error"}`),
		"endless progress": endless(`{"Progress":4}` + "\n"),
		"lost":             func(w http.ResponseWriter, r *http.Request) { good(w, r); reset(w, r) }, // the pin exists
	}
	maps.Copy(scripts, wrongAnswers())
	for name, h := range scripts {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]http.HandlerFunc{"pin/add": h}, func(t *testing.T, b *bubbled) {
				b.unavailable(b.put(t.Context(), 3<<20), 0)
				if b.called("pin/rm") != 1 {
					t.Errorf("calls: %v, want one pin/rm", b.calls)
				}
				b.mustNotCall("elsewhere")
				b.mustNotRead()
			})
		})
	}
}

func (b *bubbled) mustNotCall(commands ...string) {
	b.t.Helper()
	for _, c := range commands {
		if b.called(c) > 0 {
			b.t.Errorf("calls: %v", b.calls)
		}
	}
}

// mustNotRead fails the test if the store read more of an answer than its bound. Some answers offer
// 10 GB.
func (b *bubbled) mustNotRead() {
	b.t.Helper()
	if gave := b.gave.Load(); gave > kubo.MaxAnswer+1<<20 {
		b.t.Errorf("the store read %d bytes of answers", gave)
	}
}

// If a node answers before it has the object, its answer is the reason of the error, and Put stops
// reading the source.
func TestEarlyAnswerEndsTheUpload(t *testing.T) {
	faults.Covers(t, 43)
	for _, n := range []int64{0, 1, 100, 1 << 20, 5<<20 + 7} {
		for what, h := range map[string]http.HandlerFunc{
			"500 no space": early(http.StatusInternalServerError, noSpace),
			"200 answered": early(http.StatusOK, goodStats),
			"403 forbid":   early(http.StatusForbidden, `{"Message":"forbidden for you"}`),
		} {
			t.Run(fmt.Sprintf("%s after %d", what, n), func(t *testing.T) {
				inBubble(t, map[string]http.HandlerFunc{"dag/import": after(n, h)}, func(t *testing.T, b *bubbled) {
					a := b.put(t.Context(), 64<<20)
					b.unavailable(a, 0)
					if _, reason, _ := strings.Cut(what, " "); !strings.Contains(a.err.Error(), reason) {
						t.Errorf("got %v, want the reason %q", a.err, reason)
					}
					b.mustNotCall("pin/add")
				})
			})
		}
	}
}

// The reason goes into a log, so it is short and on one line, also for a long answer.
func TestReasonIsShort(t *testing.T) {
	faults.Covers(t, 43)
	long := strings.Repeat("no space left on device\\n", 2000)
	for name, h := range map[string]http.HandlerFunc{
		"JSON":    answer(http.StatusInternalServerError, `{"Message":"`+long+`"}`),
		"text":    typed("text/plain", http.StatusInternalServerError, strings.ReplaceAll(long, `\n`, "\n")),
		"trailer": lateError(goodStats, long),
		"type":    typed(strings.Repeat("x", 10000)+"/y", http.StatusTeapot, ""),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, map[string]http.HandlerFunc{"dag/import": h}, func(t *testing.T, b *bubbled) {
				a := b.put(t.Context(), 3<<20)
				b.unavailable(a, 0)
				got := a.err.Error()
				if len(got) > 2000 || strings.Contains(got, "\n") {
					t.Errorf("the error has %d bytes: %.3000q", len(got), got)
				}
				if name != "type" && !strings.Contains(got, "no space left") {
					t.Errorf("got %v, want the reason", got)
				}
			})
		})
	}
}
