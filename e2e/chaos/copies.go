package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// check compares a delivered copy with the letter that was sent. It returns the copy's links, and
// all errors.
func (s *system) check(delivered servers.Mail, sent posted) (links []stage.Link, wrong error) {
	stripped, err := servers.StripTrace(delivered.Data, sent.traces)
	if err != nil {
		return nil, err
	}
	if len(sent.files) == 0 {
		if sum := stage.SHA256(stripped); sum != sent.sum {
			return nil, fmt.Errorf("its bytes are not those that were sent: %d bytes with SHA-256 %v, want %d with %v", len(stripped), sum, sent.size, sent.sum)
		}
		return nil, nil
	}
	parsed := s.python.Parse(s, stripped)
	if parsed.Error != "" {
		return nil, errors.New(parsed.Error)
	}
	links = parsed.Links()
	var errs []error
	if !bytes.HasSuffix(stripped, []byte(sent.ending)) {
		errs = append(errs, fmt.Errorf("it does not end with %q", sent.ending))
	}
	if len(links) != len(sent.files) {
		errs = append(errs, fmt.Errorf("%d links, want %d", len(links), len(sent.files)))
	}
	missing := slices.Clone(sent.files)
	for _, link := range links {
		content, err := s.open(link)
		at := slices.Index(missing, stage.SHA256(content))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("the link to object %s does not open: %w", link.CID, err))
		case at < 0:
			errs = append(errs, fmt.Errorf("object %s is not one of its attachments: %d bytes", link.CID, len(content)))
		default:
			missing = slices.Delete(missing, at, at+1)
		}
	}
	for _, sum := range missing {
		errs = append(errs, fmt.Errorf("no link leads to the attachment with SHA-256 %v", sum))
	}
	all, err := parsed.All(s.Context(), sent.files)
	if all.All {
		links = append(links, all)
	}
	original, known := parsed.Original()
	if !known {
		return links, errors.Join(append(errs, err, errors.New("no link to the original"))...)
	}
	return append(links, original), errors.Join(append(errs, err, s.checkOriginal(original, sent))...)
}

// open downloads what a link leads to.
func (s *system) open(link stage.Link) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.Context(), servers.Patience)
	defer cancel()
	var content bytes.Buffer
	err := link.Download(ctx, &content)
	return content.Bytes(), err
}

// checkOriginal opens the link of Detach-Restore. The original lacks the trace field of the Postfix
// behind Detach.
func (s *system) checkOriginal(link stage.Link, sent posted) error {
	content, err := s.open(link)
	if err != nil {
		return fmt.Errorf("the original, object %s, does not open: %w", link.CID, err)
	}
	original, err := servers.StripTrace(content, sent.traces-1)
	if err != nil {
		return fmt.Errorf("the original: %w", err)
	}
	if sum := stage.SHA256(original); sum != sent.sum {
		return fmt.Errorf("the original is not what was sent: %d bytes with SHA-256 %v, want %d with %v", len(original), sum, sent.size, sent.sum)
	}
	return nil
}
