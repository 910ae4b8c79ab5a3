package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// reader is a recipient who opens links while everything breaks. A download may fail then, if that can be seen: with an
// answer that says "later", or by ending before its length. It must not be told that there is no such file, nor be given
// another one.
type reader struct {
	st *stage
	h  *house
	l  *load
	r  *rand.Rand

	opened, failed int
}

func newReader(st *stage, h *house, l *load, seed uint64) *reader {
	return &reader{st: st, h: h, l: l, r: rand.New(rand.NewPCG(seed, 1<<63))}
}

// run opens one link after the other until ctx ends.
func (d *reader) run(ctx context.Context) {
	for sleep(ctx, time.Duration(100+d.r.IntN(500))*time.Millisecond) {
		mails := d.h.box.Mails()
		if len(mails) == 0 {
			continue
		}
		mail := mails[d.r.IntN(len(mails))]
		id, _ := idOf(mail.Data)
		sent, _ := d.l.find(id)
		found, err := linksOf(d.h.detach.url, mail.Data)
		if err != nil || len(found.files) == 0 {
			continue // what is wrong with the mail itself is found at the end
		}
		links := slices.Concat(found.files, found.all)
		d.read(ctx, links[d.r.IntN(len(links))], sent)
	}
}

func (d *reader) read(ctx context.Context, link string, sent posted) {
	content, err := open(ctx, link)
	var status errStatus
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &status) && status < http.StatusInternalServerError:
		d.st.Errorf("letter %d: during the run %v for object %s, want the file or 5xx", sent.id, err, cidOf(link))
	case err != nil:
		d.failed++
	case strings.Contains(link, "/all#"):
		if files, err := unzip(content); err != nil || !slices.Equal(files, sent.files) {
			d.st.Errorf("letter %d: during the run object %s was no ZIP of its attachments: %d bytes, %v", sent.id, cidOf(link), len(content), err)
		}
		d.opened++
	case !slices.Contains(sent.files, sha256.Sum256(content)):
		d.st.Errorf("letter %d: during the run object %s was none of its attachments: %d bytes", sent.id, cidOf(link), len(content))
	default:
		d.opened++
	}
}
