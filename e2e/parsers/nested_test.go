package parsers

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
)

// withFile returns a mail to which the sender added a file: its body is the first part of a
// multipart/mixed, and a PDF is the second.
func withFile(mail []byte) []byte {
	var header, content, eol = []byte{}, []byte{}, "\n"
	if bytes.Contains(mail, []byte("\r\n")) {
		eol = "\r\n"
	}
	body, about := mail, false
	for line := range bytes.Lines(mail) {
		body = body[len(line):]
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			about = bytes.HasPrefix(bytes.ToLower(line), []byte("content-"))
		}
		if about {
			content = append(content, line...)
		} else {
			header = append(header, line...)
		}
	}
	const boundary = "=_with_file"
	around := "Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\n\n--" + boundary + "\n"
	file := "\n--" + boundary + "\nContent-Type: application/pdf; name=added.pdf\nContent-Transfer-Encoding: base64\n" +
		"Content-Disposition: attachment; filename=added.pdf\n\nJVBERi0xLjQgYWRkZWQ=\n--" + boundary + "--\n"
	unixed := func(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", eol)) }
	return bytes.Join([][]byte{header, unixed(around), content, []byte(eol), body, unixed(file)}, nil)
}

// The texts of all mails of the corpus take the notice of a file that is added to them.
func TestRecipientsSeeTheSameBesideAFile(t *testing.T) {
	r := startReaders(t)
	ex := readExceptions(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for name, mail := range corpus.All(t) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ex.check(t, "with a file: "+name, r.judge(t, withFile(mail), 1), name)
		})
	}
	wg.Wait()
	t.Logf("%d mails rewritten", r.rewritten[0].Load())
}
