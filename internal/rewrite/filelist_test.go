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
)

// list is the one that was stored, and the link under which it was.
func (m *memory) list(t *testing.T) (filelist.List, link.Link) {
	t.Helper()
	var list filelist.List
	var at link.Link
	for _, l := range m.order {
		f, ok := m.files[l.URL()]
		if !ok || f.mediaType != filelist.Type {
			continue
		}
		if at.CID.Defined() {
			t.Error("two lists of files for one mail")
		}
		if f.name != filelist.Name {
			t.Errorf("the list is called %q", f.name)
		}
		var err error
		if list, err = filelist.Read(bytes.NewReader(f.content)); err != nil {
			t.Fatal(err)
		}
		at = l
	}
	at.All = true
	return list, at
}

// A mail of two or more files has a list of them, in its order, whether it can be restored or not; and the
// link to all of them stands in each of its texts, after the files.
func TestListOfFiles(t *testing.T) {
	const mail = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n" +
		"--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n" +
		"--i\r\nContent-Type: text/plain\r\n\r\nhi\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>hi</p>\r\n--i--\r\n" +
		"--o\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n" +
		"--o\r\nContent-Type: application/zip; name=broken.zip\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj!\r\n" +
		"--o\r\nContent-Type: " + filelist.Type + "; name=b.bin\r\n\r\nbytes\r\n" +
		"--o\r\nContent-Type: image/png; name=a.pdf\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41=42\r\n--o--\r\n"
	for _, restore := range []bool{true, false} {
		d := newMemory()
		got, m, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1, Language: "en", Restore: restore}, d)
		if err != nil {
			t.Fatal(err)
		}
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
				t.Errorf("file %d: the link leads to another", i)
			}
			if f.Link = (link.Link{}); f != want[i] {
				t.Errorf("file %d: got %+v, want %+v", i, f, want[i])
			}
		}
		last := list.Files[2].Link.URL()
		for _, entry := range []string{
			last + "\r\n\r\nAll files at once:\r\n" + at.URL() + "\r\n",
			"\">" + last + "</a><br><br>\r\nAll files at once:<br>\r\n<a style=\"color:#05c\" href=\"" + at.URL() + "\">" + at.URL() + "</a></div>",
		} {
			if strings.Count(string(got), entry) != 1 {
				t.Errorf("restore %v: want once %q in\n%s", restore, entry, got)
			}
		}
	}
}

// Of a single file there is no list, and none of more than one can have: then the notice names each alone.
func TestNoListOfFiles(t *testing.T) {
	for _, n := range []int{1, filelist.MaxFiles, filelist.MaxFiles + 1} {
		d := newMemory()
		got, _, err := rewriteAll(bytes.NewReader(manyParts(n, func(int) string { return "QUJD\r\n" })), Policy{MinSize: 1, Language: "en"}, d)
		if err != nil {
			t.Fatal(err)
		}
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
	if _, _, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1}, d); err != nil {
		t.Fatal(err)
	}
	if list, _ := d.list(t); len(list.Files) > 0 || len(d.attachments()) != filelist.MaxFiles {
		t.Errorf("a list of %d files with the longest of names, want none", len(list.Files))
	}
}

// picky is a Detacher that cannot store lists.
type picky struct{ *memory }

func (p picky) Detach(ctx context.Context, name, mediaType string, r io.Reader) (link.Link, error) {
	if mediaType == filelist.Type {
		return link.Link{}, errStore
	}
	return p.memory.Detach(ctx, name, mediaType, r)
}

var errStore = errors.New("store is full")

// A list that cannot be stored fails the mail, as an attachment does.
func TestListOfFilesFails(t *testing.T) {
	mail := manyParts(2, func(int) string { return base64.StdEncoding.EncodeToString([]byte("x")) + "\r\n" })
	if _, _, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 1}, picky{newMemory()}); !errors.Is(err, errStore) {
		t.Errorf("error %v, want the store's", err)
	}
}
