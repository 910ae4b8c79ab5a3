package rewrite

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/filelist"
	"github.com/nkirchhoffer/detach-mta/internal/skeleton"
	"github.com/nkirchhoffer/detach-mta/internal/transfer"
)

// manyParts is a mail with n attachments of the given encoded body.
func manyParts(n int, body func(i int) string) []byte {
	var b strings.Builder
	b.WriteString("Subject: many\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n")
	for i := range n {
		fmt.Fprintf(&b, "--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=%d.pdf\r\n"+
			"Content-Transfer-Encoding: base64\r\n\r\n%s", i, body(i))
	}
	b.WriteString("--b--\r\n")
	return []byte(b.String())
}

// Attachments whose layouts would not fit into one skeleton any more are kept, and all come back.
func TestLayoutsOfOneMessageAreBounded(t *testing.T) {
	mail := manyParts(20, func(i int) string {
		var lines strings.Builder
		for j := range transfer.MaxRuns - 10 {
			lines.WriteString(strings.Repeat("QUJD", 1+(i+j)%2) + "\r\n")
		}
		return lines.String()
	})
	d := newMemory()
	got, m, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 1, Restore: true}, d)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Stats().Detached; n >= 20 || n < skeleton.MaxRuns/transfer.MaxRuns-1 {
		t.Errorf("%d attachments of 20 detached, want as many as one skeleton takes", n)
	}
	checkRestored(t, mail, got, m, d)
}

// A mail of as many attachments as are walked is restored.
func TestRestoreThousandsOfAttachments(t *testing.T) {
	mail := manyParts(maxParts-1, func(int) string { return "QUJD\r\nQQ==\r\n" })
	d := newMemory()
	got, m, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 1, Restore: true}, d)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Stats().Detached; n < maxParts-10 {
		t.Errorf("%d attachments detached, want all", n)
	}
	checkRestored(t, mail, got, m, d)
}

// What a sender calls a skeleton is not one, nor is a list of files.
func TestNoAttachmentIsOneOfOurs(t *testing.T) {
	for _, ours := range []string{skeleton.Type, filelist.Type, strings.ToUpper(filelist.Type)} {
		mail := strings.ReplaceAll(string(manyParts(1, func(int) string { return "QUJD\r\n" })), "application/pdf", ours)
		d := newMemory()
		if _, _, err := rewriteAll(strings.NewReader(mail), Policy{MinSize: 1}, d); err != nil {
			t.Fatal(err)
		}
		if a := d.attachments(); len(a) != 1 || a[0].mediaType != "application/octet-stream" {
			t.Errorf("%s: got %+v, want one attachment of no type", ours, a)
		}
	}
}

// restore = false: no skeleton and no field.
func TestRestoreOff(t *testing.T) {
	mail := manyParts(1, func(int) string { return "QUJD\r\n" })
	d := newMemory()
	got, _, err := rewriteAll(bytes.NewReader(mail), Policy{MinSize: 1}, d)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.files) != 1 || bytes.Contains(got, []byte(skeleton.Field)) {
		t.Errorf("%d objects, want the attachment alone:\n%s", len(d.files), got)
	}
}

// What the checksum in the skeleton costs.
func BenchmarkChecksum(b *testing.B) {
	data := make([]byte, scanBuffer)
	table := crc32.MakeTable(crc32.Castagnoli)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		crc32.Checksum(data, table)
	}
}
