package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/nkirchhoffer/detach-mta/e2e/stage"
)

// reader is a recipient who opens links while everything breaks. A download may fail visibly: by a
// status of 5xx, or by an end before its length. The gateway must never answer that the file does
// not exist, and never give another file.
type reader struct {
	s *system
	l *load
	r *rand.Rand

	opened, failed int
}

func newReader(s *system, l *load, seed uint64) *reader {
	return &reader{s: s, l: l, r: rand.New(rand.NewPCG(seed, 1<<63))}
}

// run opens one link after the other until ctx ends.
func (d *reader) run(ctx context.Context) {
	for stage.Sleep(ctx, time.Duration(100+d.r.IntN(500))*time.Millisecond) {
		mails := d.s.box.Mails()
		if len(mails) == 0 {
			continue
		}
		mail := mails[d.r.IntN(len(mails))]
		id, _ := idOf(mail.Data)
		sent, _ := d.l.find(id)
		links := d.s.python.Parse(d.s, mail.Data).AnyLinks()
		if len(links) == 0 {
			continue // the end of the run checks the mail itself
		}
		d.read(ctx, links[d.r.IntN(len(links))], sent)
	}
}

func (d *reader) read(ctx context.Context, link stage.Link, sent posted) {
	content, err := d.s.open(link)
	var status stage.StatusError
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &status) && status < http.StatusInternalServerError:
		d.s.Errorf("letter %d: during the run %v for object %s, want the file or 5xx", sent.id, err, link.CID)
	case err != nil:
		d.failed++
	case link.All:
		if files, err := stage.Unzip(content); err != nil || !slices.Equal(files, sent.files) {
			d.s.Errorf("letter %d: during the run object %s was not the ZIP of its attachments: %d bytes, %v", sent.id, link.CID, len(content), err)
		}
		d.opened++
	case !slices.Contains(sent.files, stage.SHA256(content)):
		d.s.Errorf("letter %d: during the run object %s was not one of its attachments: %d bytes", sent.id, link.CID, len(content))
	default:
		d.opened++
	}
}
