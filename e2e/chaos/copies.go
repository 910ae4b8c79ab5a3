package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// links are those that stand in one delivered mail.
type links struct {
	files    []string // in the texts, each once
	all      []string // to all of the files: one, if they are several
	original string   // in the field Detach-Restore
}

var linkForm = regexp.MustCompile(`/(bafy[a-z2-7]{55})(/all)?#(z[1-9A-HJ-NP-Za-km-z]+)`)

// linksOf finds the links to a gateway.
func linksOf(gateway string, delivered []byte) (links, error) {
	m, err := mail.ReadMessage(bytes.NewReader(delivered))
	if err != nil {
		return links{}, err
	}
	l := links{original: m.Header.Get("Detach-Restore")}
	texts, err := textsOf(m.Header.Get, m.Body)
	if err != nil {
		return links{}, err
	}
	form := regexp.MustCompile(regexp.QuoteMeta(gateway) + linkForm.String())
	for _, text := range texts {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			kind := &l.files
			if m[2] != "" {
				kind = &l.all
			}
			if !slices.Contains(*kind, m[0]) {
				*kind = append(*kind, m[0])
			}
		}
	}
	return l, nil
}

// textsOf decodes every text of a mail. A multipart that does not end is an error.
func textsOf(header func(string) string, body io.Reader) ([]string, error) {
	mediaType, params, err := mime.ParseMediaType(header("Content-Type"))
	switch {
	case err != nil:
		return nil, err
	case strings.HasPrefix(mediaType, "text/"):
		if strings.EqualFold(header("Content-Transfer-Encoding"), "base64") {
			body = base64.NewDecoder(base64.StdEncoding, body)
		}
		text, err := io.ReadAll(body)
		return []string{string(text)}, err
	case !strings.HasPrefix(mediaType, "multipart/"):
		return nil, nil
	}
	var texts []string
	for parts := multipart.NewReader(body, params["boundary"]); ; {
		part, err := parts.NextPart() // which decodes quoted-printable
		if err == io.EOF {
			return texts, nil
		}
		if err != nil {
			return nil, err
		}
		some, err := textsOf(part.Header.Get, part)
		if err != nil {
			return nil, err
		}
		texts = append(texts, some...)
	}
}

// cidOf is the object that a link names.
func cidOf(link string) string {
	if m := linkForm.FindStringSubmatch(link); m != nil {
		return m[1]
	}
	return ""
}

// errStatus is an answer of the gateway other than 200.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("the gateway answered %d", int(e)) }

var browser = &http.Client{Timeout: 2 * time.Minute}

// open downloads what a link names, as a browser without JavaScript does: it posts the key and is sent on to the file.
func open(ctx context.Context, link string) ([]byte, error) {
	page, key, _ := strings.Cut(link, "#")
	form := url.Values{"key": {key}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, page, strings.NewReader(form))
	if err != nil {
		return nil, errors.New("not a link")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errStatus(resp.StatusCode)
	}
	return io.ReadAll(resp.Body)
}

// check holds one delivered copy against the letter that was sent. It returns what the links lead to, and everything that is wrong.
func check(ctx context.Context, gateway string, delivered servers.Mail, sent posted) (found links, wrong error) {
	stripped, err := servers.StripTrace(delivered.Data, sent.traces)
	if err != nil {
		return found, err
	}
	if len(sent.files) == 0 {
		if sum := digest(sha256.Sum256(stripped)); sum != sent.sum {
			return found, fmt.Errorf("its bytes are not those that were sent: %d bytes with SHA-256 %v, want %d with %v", len(stripped), sum, sent.size, sent.sum)
		}
		return found, nil
	}
	if found, err = linksOf(gateway, stripped); err != nil {
		return found, err
	}
	var errs []error
	if !bytes.HasSuffix(stripped, []byte(sent.ending)) {
		errs = append(errs, fmt.Errorf("it does not end with %q", sent.ending))
	}
	if len(found.files) != len(sent.files) {
		errs = append(errs, fmt.Errorf("%d links, want %d", len(found.files), len(sent.files)))
	}
	missing := slices.Clone(sent.files)
	for _, link := range found.files {
		content, err := open(ctx, link)
		at := slices.Index(missing, sha256.Sum256(content))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("the link to object %s does not open: %w", cidOf(link), err))
		case at < 0:
			errs = append(errs, fmt.Errorf("object %s is none of its attachments: %d bytes", cidOf(link), len(content)))
		default:
			missing = slices.Delete(missing, at, at+1)
		}
	}
	for _, sum := range missing {
		errs = append(errs, fmt.Errorf("no link leads to the attachment with SHA-256 %v", sum))
	}
	return found, errors.Join(append(errs, checkAll(ctx, found.all, sent), checkOriginal(ctx, found.original, sent))...)
}

// checkAll opens the link to all files, which is there if they are several.
func checkAll(ctx context.Context, all []string, sent posted) error {
	if want := min(1, len(sent.files)/2); len(all) != want {
		return fmt.Errorf("%d links to all of %d files, want %d", len(all), len(sent.files), want)
	}
	for _, link := range all {
		content, err := open(ctx, link)
		if err != nil {
			return fmt.Errorf("all files, object %s, do not open: %w", cidOf(link), err)
		}
		got, err := unzip(content)
		if err != nil {
			return fmt.Errorf("all files, object %s: %w", cidOf(link), err)
		}
		if !slices.Equal(got, sent.files) {
			return fmt.Errorf("all files, object %s, are %v", cidOf(link), got)
		}
	}
	return nil
}

// unzip finds out which files are in a ZIP.
func unzip(content []byte) (files []digest, err error) {
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		file, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		files = append(files, sha256.Sum256(file))
	}
	return files, nil
}

// checkOriginal opens the link of Detach-Restore. The original lacks the trace field of the Postfix behind Detach.
func checkOriginal(ctx context.Context, link string, sent posted) error {
	content, err := open(ctx, link)
	if err != nil {
		return fmt.Errorf("the original, object %s, does not open: %w", cidOf(link), err)
	}
	original, err := servers.StripTrace(content, sent.traces-1)
	if err != nil {
		return fmt.Errorf("the original: %w", err)
	}
	if sum := digest(sha256.Sum256(original)); sum != sent.sum {
		return fmt.Errorf("the original is not what was sent: %d bytes with SHA-256 %v, want %d with %v", len(original), sum, sent.size, sent.sum)
	}
	return nil
}
