package rewrite

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// list returns the file list that was stored, and its link.
func (m *memoryStore) list(t *testing.T) (filelist.List, link.Link) {
	t.Helper()
	var list filelist.List
	var at link.Link
	for _, l := range m.order {
		f, ok := m.files[l.URL()]
		if !ok || f.mediaType != filelist.Type {
			continue
		}
		if at.CID.Defined() {
			t.Error("two file lists for one mail")
		}
		if f.name != filelist.Name {
			t.Errorf("the file list is called %q, want %q", f.name, filelist.Name)
		}
		var err error
		list, err = filelist.Read(bytes.NewReader(f.content))
		must.Succeed(t, err)
		at = l
	}
	at.All = true
	return list, at
}

// A mail with two or more files has a file list in the mail's order, whether or not the mail can be
// restored, and each of its texts has the link to all files after the single ones.
func TestFileListHasAllFilesInOrder(t *testing.T) {
	const mail = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n" +
		"--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n" +
		"--i\r\nContent-Type: text/plain\r\n\r\nhi\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>hi</p>\r\n--i--\r\n" +
		"--o\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n" +
		"--o\r\nContent-Type: application/zip; name=broken.zip\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJjY\r\n" +
		"--o\r\nContent-Type: " + filelist.Type + "; name=b.bin\r\n\r\nbytes\r\n" +
		"--o\r\nContent-Type: image/png; name=a.pdf\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41=42\r\n--o--\r\n"
	for _, restore := range []bool{true, false} {
		d := newMemory()
		got, m := mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1, Language: "en", Restore: restore}, d)
		if restore {
			checkRestored(t, []byte(mail), got, m, d)
		}
		list, at := d.list(t)
		want := []filelist.File{
			{Name: "a.pdf", Type: "application/pdf", Size: 3, CRC32: crc32.ChecksumIEEE([]byte("abc"))},
			{Name: "b.bin", Type: "application/octet-stream", Size: 5, CRC32: crc32.ChecksumIEEE([]byte("bytes"))},
			{Name: "a.pdf", Type: "image/png", Size: 2, CRC32: crc32.ChecksumIEEE([]byte("AB"))},
		}
		if len(list.Files) != len(want) {
			t.Fatalf("%d files in the list, want %d", len(list.Files), len(want))
		}
		for i, f := range list.Files {
			if stored := d.files[f.Link.URL()]; int64(len(stored.content)) != f.Size || crc32.ChecksumIEEE(stored.content) != f.CRC32 {
				t.Errorf("file %d: the link leads to another file", i)
			}
			if f.Link = (link.Link{}); f != want[i] {
				t.Errorf("file %d: got %+v, want %+v", i, f, want[i])
			}
		}
		last := list.Files[2].Link.URL()
		for _, entry := range []string{
			last + "\r\n\r\nAll 3 files together\r\n" + at.URL() + "\r\n",
			"href=\"" + at.URL() + "\">\r\n<u>&#8595;&#160;All 3 files together</u></a>&#160; <span style=\"opacity:.75\">10&#160;bytes</span></p></td></tr></table>",
		} {
			if strings.Count(string(got), entry) != 1 {
				t.Errorf("restore %v: want once %q in\n%s", restore, entry, got)
			}
		}
	}
}

// A mail with one file, or with more files than a file list can have, gets no file list: the notice
// has only the links of the single files.
func TestNoFileListForOneFileOrTooMany(t *testing.T) {
	for _, n := range []int{1, filelist.MaxFiles, filelist.MaxFiles + 1} {
		d := newMemory()
		got, _ := mustRewrite(t, bytes.NewReader(manyParts(n, func(int) string { return "QUJD\r\n" })), Policy{MinSize: 1, Language: "en"}, d)
		list, _ := d.list(t)
		want := 0
		if n == filelist.MaxFiles {
			want = n
		}
		if len(list.Files) != want || strings.Contains(string(got), "/all#") != (want > 0) || len(d.attachments()) != n {
			t.Errorf("%d files: a list of %d, want %d", n, len(list.Files), want)
		}
	}
	long := fmt.Sprintf("Content-Disposition: attachment; filename=\"%s\"\r\n", strings.Repeat("&", 900))
	each := func(i int) string { return base64.StdEncoding.EncodeToString(fmt.Append(nil, i)) + "\r\n" }
	mail := strings.ReplaceAll(string(manyParts(filelist.MaxFiles, each)), "Content-Disposition: attachment; filename=", long+"X: ")
	d := newMemory()
	mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1}, d)
	if list, _ := d.list(t); len(list.Files) > 0 || len(d.attachments()) != filelist.MaxFiles {
		t.Errorf("%d files with the longest names: a list of %d, want no list", len(d.attachments()), len(list.Files))
	}
}

// picky is a Detacher that cannot store objects of one media type.
type picky struct {
	*memoryStore
	refused string
}

func (p picky) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	if mediaType == p.refused {
		return link.Link{}, errStore
	}
	return p.memoryStore.Detach(ctx, name, mediaType, r)
}

func (p picky) DetachEncoded(ctx context.Context, name, mediaType string, r io.Reader, _ func() io.Reader) (link.Link, error) {
	return p.Detach(ctx, name, mediaType, r)
}

var errStore = errors.New("store is full")

// A mail fails if the store refuses an attachment, the file list or the skeleton.
func TestFailedStoringFailsTheMail(t *testing.T) {
	mail := manyParts(2, func(int) string { return "QUJD\r\n" })
	for _, refused := range []string{"application/pdf", filelist.Type, skeleton.Type} {
		d := picky{newMemory(), refused}
		if _, _, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 1, Restore: true}, d); !errors.Is(err, errStore) {
			t.Errorf("%s refused: error %v, want that of the store", refused, err)
		}
	}
}

// Attachments whose layouts do not fit into the skeleton are kept, and the mail is restored.
func TestLayoutsOfOneMessageAreBounded(t *testing.T) {
	mail := manyParts(100, func(i int) string {
		var lines strings.Builder
		for j := range transfer.MaxRuns - 10 {
			lines.WriteString(strings.Repeat("QUJD", 1+(i+j)%2) + "\r\n")
		}
		return lines.String()
	})
	if _, n := restored(t, mail, Policy{MinSize: 1, Restore: true}); n >= 100 || n < skeleton.MaxRuns/transfer.MaxRuns-1 {
		t.Errorf("%d attachments of 100 detached, want as many as one skeleton takes", n)
	}
}

// A mail with as many attachments as a skeleton takes is restored.
func TestRestoreThousandsOfAttachments(t *testing.T) {
	mail := manyParts(maxParts-1, func(int) string { return "QUJD\r\nQQ==\r\n" })
	if _, n := restored(t, mail, Policy{MinSize: 1, Restore: true}); n < skeleton.MaxRuns-100 {
		t.Errorf("%d attachments detached, want %d or almost", n, skeleton.MaxRuns)
	}
}

func TestAttachmentsCannotHaveOurTypes(t *testing.T) {
	for _, ours := range []string{skeleton.Type, filelist.Type, strings.ToUpper(filelist.Type)} {
		mail := strings.ReplaceAll(string(manyParts(1, func(int) string { return "QUJD\r\n" })), "application/pdf", ours)
		d := newMemory()
		mustRewrite(t, strings.NewReader(mail), Policy{MinSize: 1}, d)
		if a := d.attachments(); len(a) != 1 || a[0].mediaType != "application/octet-stream" {
			t.Errorf("%s: got %+v, want one application/octet-stream", ours, a)
		}
	}
}
