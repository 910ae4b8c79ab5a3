package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/memory"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// putOriginal stores a message with one attachment, as the proxy does, and returns it.
func (f *fixture) putOriginal(content []byte, size int64) (whole []byte, l, part link.Link) {
	f.t.Helper()
	b := f.vault.Begin(f.retention)
	part, err := b.Detach(context.Background(), "report.pdf", "application/pdf", bytes.NewReader(content))
	check(f.t, err)
	const before, after = "Subject: x\r\n\r\n--b\r\n\r\n", "\r\n--b--\r\n"
	whole = append(append([]byte(before), content...), after...)
	sum := skeleton.NewSum()
	sum.Write(whole)
	pieces := []skeleton.Piece{
		{Length: int64(len(before)), Text: strings.NewReader(before), Cut: &skeleton.Cut{Link: part.URL(), Layout: transfer.Layout{Encoding: transfer.Identity}}},
		{Length: int64(len(after)), Text: strings.NewReader(after)},
	}
	next := func() skeleton.Piece {
		p := pieces[0]
		pieces = pieces[1:]
		return p
	}
	l, err = b.Detach(context.Background(), skeleton.Name, skeleton.Type, skeleton.NewReader(size+int64(len(before+after)), sum, next))
	check(f.t, err)
	check(f.t, b.Commit(context.Background()))
	return whole, l, part
}

// The page of a Detach-Restore link has a button that downloads the whole original message.
func TestOriginalIsTheWholeMessage(t *testing.T) {
	f := newFixture(t, 0)
	for _, size := range []int{1, 5<<20 + 77} {
		want, l, _ := f.putOriginal(noise(size), int64(size))
		wantText(t, "the page", f.body("/"+l.CID.String()), "the whole original message")
		file := f.ticket(l)
		if !strings.HasSuffix(file, "/original.eml") {
			t.Errorf("the address of the download does not end in its name: %s", file)
		}
		resp := f.get(file, "Range", "bytes=5-9")
		wantStatus(t, resp, 200)
		wantHeader(t, resp, "Content-Type", "application/octet-stream")
		wantHeader(t, resp, "Content-Disposition", "attachment; filename=original.eml")
		wantHeader(t, resp, "Accept-Ranges", "none")
		wantHeader(t, resp, "Cache-Control", fileCache)
		if resp.ContentLength != int64(len(want)) {
			t.Errorf("Content-Length %d, want %d", resp.ContentLength, len(want))
		}
		if got := readAll(t, resp); !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
		f.wantSameHead(file, resp)
	}
}

// A missing part causes an error page. A part that fails half way breaks the download off.
func TestOriginalWithoutAPartIsNoMessage(t *testing.T) {
	f := newFixture(t, 0)
	const size = 5 << 20
	_, l, part := f.putOriginal(noise(size), size)
	file := f.ticket(l)

	f.store.fail(nil, func(_ context.Context, n int, data []byte) ([]byte, error) {
		if n > 6 { // after directory, metadata, origin, the file's root and two leaves
			return nil, errors.New("disk on fire")
		}
		return data, nil
	})
	resp := f.get(file)
	wantStatus(t, resp, 200)
	if got, err := io.ReadAll(resp.Body); err == nil || len(got) == 0 {
		t.Errorf("a disk that fails half way: %d bytes and error %v, want some and an error", len(got), err)
	}
	f.store.fail(nil, nil)

	f.deny(part)
	resp = f.get(file)
	wantStatus(t, resp, http.StatusGone)
	wantHeader(t, resp, "Content-Type", page)
	wantHeader(t, resp, "Etag", "")

	// The skeleton promises more bytes than there are. A small message is refused as a whole.
	_, l, _ = f.putOriginal(noise(1000), 1001)
	resp = f.get(f.ticket(l))
	wantStatus(t, resp, http.StatusInternalServerError)
	_, l, _ = f.putOriginal(noise(size), size+1)
	resp = f.get(f.ticket(l))
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d bytes without an error, although one is missing", len(got))
	}
}

// When slow clients keep as much memory as they may, an original or a long ZIP is refused for the
// time being. What needs little is answered all the same.
func TestOriginalWaitsForMemory(t *testing.T) {
	faults.Covers(t, 95)
	f := newFixture(t, 0)
	_, original, _ := f.putOriginal(noise(1000), 1000)
	var files []named
	for i := range 400 {
		files = append(files, named{fmt.Sprintf("%d.txt", i), noise(1)})
	}
	long, _ := f.putAll(files...)
	short, each := f.putAll(threeFiles()...)
	budget := memory.New(8 << 20)
	f.serve(f.vault, Config{Memory: budget})
	paths := map[string]int{f.ticket(original): 503, f.ticket(long): 503, f.ticket(short): 200, f.ticket(each[0]): 200}
	claimed := int64(0)
	for ; budget.Claim(1 << 10); claimed += 1 << 10 {
	}
	for path, want := range paths {
		resp := f.get(path)
		wantStatus(t, resp, want)
		readAll(t, resp)
		if want == http.StatusServiceUnavailable {
			wantHeader(t, resp, "Retry-After", retryAfter)
		}
		wantStatus(t, f.request(http.MethodHead, path, ""), 200)
	}
	budget.Release(claimed)
	for path := range paths {
		resp := f.get(path)
		wantStatus(t, resp, 200)
		readAll(t, resp)
	}
	f.srv.Close() // waits for the handlers: a client has the last byte before the handler returns
	if used := budget.Used(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
}
