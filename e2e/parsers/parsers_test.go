// Package parsers looks at rewritten mails as recipients do, through programs that share no code
// with Detach: Python's email package, mailparser and postal-mime.
package parsers

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/rewrite"
	"github.com/nkirchhoffer/detach-mta/internal/test/corpus"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/test/python"
)

// minSizes are the smallest that is possible, and the default.
var minSizes = []int64{1, 64 << 10}

// rewritten returns the mail as it is delivered, and what was detached.
func rewritten(t *testing.T, mail []byte, minSize int64) ([]byte, []file) {
	t.Helper()
	m, err := rewrite.Read(bytes.NewReader(mail), rewrite.Policy{MinSize: minSize, Language: "auto", Restore: true})
	must.Succeed(t, err)
	defer m.Close()
	var s store
	if !m.Passes() {
		must.Succeed(t, m.Detach(context.Background(), &s))
	}
	var out bytes.Buffer
	_, err = m.WriteTo(&out)
	must.Succeed(t, err)
	return out.Bytes(), s.attachments()
}

// Recipients see of a rewritten mail what they would see of the received one: the same texts, but
// for the notice; every picture and every file, or its link. The exceptions are in exceptions.tsv.
func TestRecipientsSeeTheSame(t *testing.T) {
	faults.Covers(t, 56)
	r := startReaders(t)
	ex := readExceptions(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	mails := 0
	for name, mail := range corpus.All(t) {
		mails++
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var all []complaint
			for _, minSize := range minSizes {
				all = append(all, r.judge(t, mail, minSize)...)
			}
			ex.check(t, name, all)
		})
	}
	wg.Wait()
	t.Logf("%d mails, %d of them rewritten from 1 byte on, %d from 64 KiB on", mails, r.rewritten[0].Load(), r.rewritten[1].Load())
}

// judge returns what a recipient might complain about.
func (r *readers) judge(t *testing.T, mail []byte, minSize int64) []complaint {
	after, files := rewritten(t, mail, minSize)
	if bytes.Equal(mail, after) {
		received := r.read(t, mail)
		return compare(received, received, nil, minSize)
	}
	if len(files) == 0 {
		return []complaint{{"changed", "nothing was detached"}}
	}
	r.rewritten[slices.Index(minSizes, minSize)].Add(1)
	all := python.Want{Seen: true, Defects: true}
	return compare(r.readAs(t, mail, all), r.readAs(t, after, all), files, minSize)
}
