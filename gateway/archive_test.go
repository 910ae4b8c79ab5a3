package gateway

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/link"
	"github.com/nkirchhoffer/detach-mta/ipfs"
)

type named struct {
	name    string
	content []byte
}

// putAll stores a mail's files and their file list, as the proxy does.
func (f *fixture) putAll(files ...named) (all link.Link, each []link.Link) {
	f.t.Helper()
	return f.putAltered(func([]filelist.File) {}, files...)
}

// putAltered stores a mail's files, and their file list after alter has changed it.
func (f *fixture) putAltered(alter func([]filelist.File), files ...named) (all link.Link, each []link.Link) {
	f.t.Helper()
	b := f.vault.Begin(f.retention)
	defer b.Close()
	var list []filelist.File
	for _, file := range files {
		l, err := b.Detach(context.Background(), file.name, "application/pdf", bytes.NewReader(file.content))
		check(f.t, err)
		each = append(each, l)
		list = append(list, filelist.File{Link: l, Name: file.name, Type: "application/pdf", Size: int64(len(file.content)), CRC32: crc32.ChecksumIEEE(file.content)})
	}
	alter(list)
	text, err := filelist.Marshal(list)
	check(f.t, err)
	all, err = b.Detach(context.Background(), filelist.Name, filelist.Type, bytes.NewReader(text))
	check(f.t, err)
	check(f.t, b.Commit(context.Background()))
	all.All = true
	return all, each
}

func threeFiles() []named {
	return []named{{"report.pdf", noise(3<<20 + 5)}, {"../Über.txt", noise(100)}, {"report.pdf", noise(2<<20 + 7)}}
}

// unzip returns the names and contents in a ZIP.
func unzip(t *testing.T, b []byte) (names []string, contents [][]byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	check(t, err)
	for _, f := range z.File {
		r, err := f.Open()
		check(t, err)
		content, err := io.ReadAll(r) // which compares the CRC
		check(t, err)
		names, contents = append(names, f.Name), append(contents, content)
	}
	return names, contents
}

// The button of a file list's page downloads one ZIP, with its length and a strong ETag.
func TestArchiveIsOneWholeZIP(t *testing.T) {
	f := newFixture(t, 0)
	files := threeFiles()
	all, _ := f.putAll(files...)
	file := f.ticket(all)
	if !strings.HasSuffix(file, "/files.zip") {
		t.Errorf("the address of the download does not end in its name: %s", file)
	}
	resp := f.get(file)
	wantStatus(t, resp, 200)
	wantHeader(t, resp, "Content-Type", "application/octet-stream")
	wantHeader(t, resp, "Content-Disposition", "attachment; filename=files.zip")
	wantHeader(t, resp, "Accept-Ranges", "bytes")
	wantHeader(t, resp, "Cache-Control", fileCache)
	wantHeader(t, resp, "Etag", etag(all.CID, archiveForm))
	whole := readAll(t, resp)
	if resp.ContentLength != int64(len(whole)) {
		t.Errorf("Content-Length %d, and %d bytes came", resp.ContentLength, len(whole))
	}
	names, contents := unzip(t, whole)
	if got, want := fmt.Sprint(names), "[report.pdf Über.txt report (2).pdf]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for i, content := range contents {
		if !bytes.Equal(content, files[i].content) {
			t.Errorf("file %d has other bytes", i)
		}
	}
	f.wantSameHead(file, resp)
	// The page without /all gives the same ZIP, and so does the link pasted on another page.
	for _, path := range []string{"/" + all.CID.String(), "/", "/" + f.put("other.pdf", noise(3)).CID.String()} {
		resp := f.post(path, all.URL())
		wantStatus(t, resp, http.StatusSeeOther)
		if got := readAll(t, f.get(strings.TrimPrefix(resp.Header.Get("Location"), prefix))); !bytes.Equal(got, whole) {
			t.Errorf("%s: got another ZIP", path)
		}
	}
}

// A range begins at any byte, and reads only the files that it touches.
func TestArchiveRangeReadsOnlyItsFiles(t *testing.T) {
	f := newFixture(t, 0)
	all, _ := f.putAll(threeFiles()...)
	file, tag := f.ticket(all), etag(all.CID, archiveForm)
	whole := readAll(t, f.get(file))
	size := len(whole)
	for _, tt := range []struct {
		header, ifRange string
		from, to        int
		leaves          int // how many may be read, of 1 MiB or at the end of a file
		status          int
	}{
		{"bytes=0-0", "", 0, 1, 1, 206}, // a file's header is sent only after the file was opened
		{"bytes=100-199", "", 100, 200, 1, 206},
		{"bytes=2000000-2000009", "", 2000000, 2000010, 1, 206},
		{fmt.Sprintf("bytes=%d-", size-100), "", size - 100, size, 0, 206},
		{"bytes=-50", "", size - 50, size, 0, 206},
		{"bytes=3145600-3146200", tag, 3145600, 3146201, 3, 206}, // over the end of the first file and all of the second
		{"bytes=5-", `"other"`, 0, size, -1, 200},
		{"bytes=0-1,5-6", "", 0, size, -1, 200},
		{fmt.Sprintf("bytes=%d-", size), "", 0, 0, 0, 416},
	} {
		leaves := 0
		f.store.fail(nil, func(_ context.Context, _ int, data []byte) ([]byte, error) {
			if len(data) == 1<<20 || len(data) == 5 || len(data) == 100 || len(data) == 7 {
				leaves++
			}
			return data, nil
		})
		headers := []string{"Range", tt.header}
		if tt.ifRange != "" {
			headers = append(headers, "If-Range", tt.ifRange)
		}
		resp := f.get(file, headers...)
		wantStatus(t, resp, tt.status)
		got := readAll(t, resp)
		if tt.status == 416 {
			continue
		}
		if !bytes.Equal(got, whole[tt.from:tt.to]) {
			t.Errorf("%s: got other bytes", tt.header)
		}
		if tt.leaves >= 0 && leaves > tt.leaves+1 { // opening a file of one leaf reads the leaf
			t.Errorf("%s: %d leaves were read, want %d", tt.header, leaves, tt.leaves)
		}
	}
}

// Files that were revoked or deleted are left out, and the ETag changes, so that a client does not
// complete a part of one ZIP with a part of another.
func TestArchiveLeavesOutWhatIsGone(t *testing.T) {
	f := newFixture(t, 0)
	all, each := f.putAll(threeFiles()...)
	file := f.ticket(all)
	before := f.get(file)
	whole := readAll(t, before)
	tags := map[string]bool{before.Header.Get("Etag"): true}

	f.deny(each[0])
	resp := f.get(file, "Range", "bytes=1000-", "If-Range", before.Header.Get("Etag"))
	wantStatus(t, resp, 200)
	got := readAll(t, resp)
	if names, _ := unzip(t, got); fmt.Sprint(names) != "[Über.txt report.pdf]" || len(got) >= len(whole) {
		t.Errorf("one revoked: got %q", names)
	}
	tags[resp.Header.Get("Etag")] = true

	// That a file was deleted shows when its turn comes. The next ZIP leaves it out.
	f.deny()
	check(t, f.store.Delete(context.Background(), each[2].CID))
	resp = f.get(file)
	wantStatus(t, resp, 200)
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("one deleted: %d bytes without an error", len(got))
	}
	resp = f.get(file, "Range", "bytes=1000-", "If-Range", before.Header.Get("Etag"))
	wantStatus(t, resp, 200)
	if names, _ := unzip(t, readAll(t, resp)); fmt.Sprint(names) != "[report.pdf Über.txt]" {
		t.Errorf("one deleted: got %q", names)
	}
	tags[resp.Header.Get("Etag")] = true
	if len(tags) != 3 {
		t.Errorf("%d ETags for three ZIPs", len(tags))
	}

	f.deny(each[0], each[1])
	resp = f.get(file)
	wantStatus(t, resp, http.StatusGone)
	wantHeader(t, resp, "Content-Type", page)
	wantHeader(t, resp, "Etag", "")
	wantText(t, "the page without files", string(readAll(t, resp)), "no longer here")
	f.deny(all)
	for _, path := range []string{file, "/" + all.CID.String() + "/all"} {
		wantStatus(t, f.get(path), http.StatusGone)
	}
}

// A file that turns out to be lost before the first byte is sent is left out of this ZIP already.
func TestArchiveBeginsAgainWithoutLostFiles(t *testing.T) {
	f := newFixture(t, 0)
	files := threeFiles()
	all, each := f.putAll(files...)
	file := f.ticket(all)
	for _, l := range each[:2] {
		check(t, f.store.Delete(context.Background(), l.CID))
	}
	for _, headers := range [][]string{nil, {"Range", "bytes=0-"}} {
		resp := f.get(file, headers...)
		if names, contents := unzip(t, readAll(t, resp)); fmt.Sprint(names) != "[report.pdf]" || !bytes.Equal(contents[0], files[2].content) {
			t.Errorf("%q: got %q", headers, names)
		}
	}
	check(t, f.store.Delete(context.Background(), each[2].CID))
	wantStatus(t, f.get(file), http.StatusGone)
}

// A request for nothing, or for a few bytes, of a ZIP of many files asks the store for no file that
// it does not send.
func TestPieceOfALongArchiveIsCheap(t *testing.T) {
	f := newFixture(t, 0)
	var files []named
	for i := range 200 {
		files = append(files, named{fmt.Sprintf("%d.txt", i), noise(10)})
	}
	all, _ := f.putAll(files...)
	file := f.ticket(all)
	for _, tt := range []struct {
		method        string
		status, opens int
	}{{http.MethodHead, http.StatusOK, 1}, {http.MethodGet, http.StatusPartialContent, 2}} {
		f.store.opens = 0
		resp := f.request(tt.method, file, "", "Range", "bytes=0-60") // the first file
		readAll(t, resp)
		if wantStatus(t, resp, tt.status); f.store.opens != tt.opens {
			t.Errorf("%s: %d objects were opened, want %d", tt.method, f.store.opens, tt.opens)
		}
	}
}

// A file that does not match its CIDs or the file list breaks the download off.
func TestDamagedFileBreaksTheArchive(t *testing.T) {
	f := newFixture(t, 0)
	files := threeFiles()
	all, _ := f.putAll(files...)
	file := f.ticket(all)
	for name, get := range map[string]func(context.Context, []byte) ([]byte, error){
		"flipped bit": flip,
		"block gone":  func(context.Context, []byte) ([]byte, error) { return nil, ipfs.ErrNotFound },
	} {
		f.store.fail(nil, func(ctx context.Context, _ int, data []byte) ([]byte, error) {
			if len(data) != 7 { // the last leaf of the last file
				return data, nil
			}
			return get(ctx, data)
		})
		resp := f.get(file)
		wantStatus(t, resp, 200)
		if got, err := io.ReadAll(resp.Body); err == nil || len(got) < 5<<20 {
			t.Errorf("%s: %d bytes and error %v, want most of it and an error", name, len(got), err)
		}
	}
	f.store.fail(nil, atLeaf(1, flip)) // damage before the first byte is a status
	resp := f.get(file)
	wantStatus(t, resp, http.StatusInternalServerError)
	wantHeader(t, resp, "Etag", "")
	f.store.fail(ipfs.ErrUnavailable, nil)
	wantStatus(t, f.get(file), http.StatusServiceUnavailable)
	f.store.fail(nil, nil)

	for name, alter := range map[string]func([]filelist.File){
		"another CRC": func(l []filelist.File) { l[2].CRC32++ },
		"too short":   func(l []filelist.File) { l[2].Size++ },
		"too long":    func(l []filelist.File) { l[2].Size-- },
		"another key": func(l []filelist.File) { l[2].Link.Fragment = l[0].Link.Fragment },
	} {
		all, _ := f.putAltered(alter, files...)
		resp := f.get(f.ticket(all))
		wantStatus(t, resp, 200)
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %d bytes without an error", name, len(got))
		}
	}
	all, _ = f.putAltered(func(l []filelist.File) { l[1].Link = l[0].Link }, files...)
	wantStatus(t, f.get(f.ticket(all)), http.StatusInternalServerError)
	wantNoText(t, "the log", f.logs.String(), "report", all.Fragment.Encode())
}

// What a link leads to is what the object's metadata says, whether the link has "/all" or not.
func TestKindOfAnObjectIsThatOfItsMetadata(t *testing.T) {
	f := newFixture(t, 0)
	files := threeFiles()
	all, each := f.putAll(files...)
	for _, suffix := range []string{"", "/all"} {
		download := func(l link.Link) []byte {
			t.Helper()
			resp := f.post("/"+l.CID.String()+suffix, l.Fragment.Encode())
			wantStatus(t, resp, http.StatusSeeOther)
			return []byte(f.body(strings.TrimPrefix(resp.Header.Get("Location"), prefix)))
		}
		if got := download(each[0]); !bytes.Equal(got, files[0].content) {
			t.Errorf("%q: a file gives %d bytes, want %d", suffix, len(got), len(files[0].content))
		}
		if names, _ := unzip(t, download(all)); len(names) != len(files) {
			t.Errorf("%q: the list gives %q, want %d files", suffix, names, len(files))
		}
	}
}

// The page of a file list has other words than a file's page, and names no file.
func TestPageOfAFileListNamesNoFile(t *testing.T) {
	f := newFixture(t, 0)
	all, each := f.putAll(threeFiles()...)
	c := "/" + all.CID.String()
	for _, path := range []string{c + "/all", c + "/all/"} {
		html := f.body(path)
		wantText(t, path, html, "Files were sent to you", "Download all (ZIP)", `action="/mail`+c+`/all"`, `data-base="/mail/"`)
		wantNoText(t, path, html, "report.pdf", each[0].CID.String(), each[0].Fragment.Encode())
	}
	wantNoText(t, "the page of a file", f.body("/"+each[0].CID.String()), all.CID.String(), each[1].CID.String())
	key := all.Fragment.Encode()
	for path, want := range map[string]string{
		c + "/all%23" + key:           c + "/all#" + key,
		c + "/all%2523" + key + "%3E": c + "/all#" + key,
		c + "%23" + key:               c + "#" + key,
	} {
		resp := f.get(path)
		wantStatus(t, resp, http.StatusSeeOther)
		wantHeader(t, resp, "Location", prefix+want)
	}
	for path, want := range map[string]int{
		c + "/all%23" + key[:20]: 400, c + "/all%23": 400, c + "/al": 400, c + "/a": 400, c + "/all%3E": 400, c + "/all.": 400,
		c + "/all/x": 404, c + "/allx": 404,
	} {
		wantStatus(t, f.get(path), want)
	}
	wantNoText(t, "the log", f.logs.String(), key)
}

// A frame shows no file lists and no skeletons.
func TestListsAndSkeletonsAreNotShown(t *testing.T) {
	f := newFixture(t, 0)
	all, _ := f.putAll(threeFiles()...)
	_, original, _ := f.putOriginal([]byte("x"), 1)
	for _, l := range []link.Link{all, original} {
		resp, _ := f.viewed(l)
		wantStatus(t, resp, http.StatusUnsupportedMediaType)
	}
}
