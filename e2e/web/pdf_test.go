package web

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
	"github.com/nkirchhoffer/detach-mta/e2e/stage"
	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
)

// pdfOf makes a PDF (ISO 32000-1 section 7.5). Its scripts ask for the address ran when the file
// or a page is opened, and on a click. The last of several pages is in Japanese, in a font that is
// not in the file. Ballast bytes lie between the pages and their index.
func pdfOf(pages int, ran string, ballast int) []byte {
	var b strings.Builder
	var offsets []int
	add := func(format string, args ...any) int {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", len(offsets), fmt.Sprintf(format, args...))
		return len(offsets)
	}
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	stream := func(s string) int { return add("<</Length %d>>stream\n%s\nendstream", len(s), s) }
	script := add("<</S/JavaScript/JS(app.alert\\('ran'\\);app.launchURL\\('%s',true\\);this.submitForm\\('%s'\\);fetch\\('%s'\\);document.title='ran')>>", ran, ran, ran)
	latin := add("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
	cid := add("<</Type/Font/Subtype/CIDFontType0/BaseFont/KozMinPr6N-Regular/CIDSystemInfo<</Registry(Adobe)/Ordering(Japan1)/Supplement 6>>/FontDescriptor<</Type/FontDescriptor/FontName/KozMinPr6N-Regular/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0/Ascent 800/Descent -200/StemV 80/CapHeight 700>>>>")
	japanese := add("<</Type/Font/Subtype/Type0/BaseFont/KozMinPr6N-Regular-UniJIS-UCS2-H/Encoding/UniJIS-UCS2-H/DescendantFonts[%d 0 R]>>", cid)
	tree := len(offsets) + 2*pages + 1 + min(ballast, 1)
	var kids strings.Builder
	for i := range pages {
		content := fmt.Sprintf("BT/L 48 Tf 60 700 Td(Page %d of it)Tj ET 60 600 200 40 re f", i+1)
		if i > 0 && i == pages-1 {
			content = "BT/J 48 Tf 60 700 Td<65E5672C8A9E>Tj ET 60 600 200 40 re f"
		}
		c := stream(content)
		page := add("<</Type/Page/Parent %d 0 R/MediaBox[0 0 595 842]/Contents %d 0 R/Resources<</Font<</L %d 0 R/J %d 0 R>>>>/AA<</O %d 0 R>>/Annots[<</Type/Annot/Subtype/Link/Rect[60 600 260 640]/A %d 0 R>>]>>", tree, c, latin, japanese, script, script)
		fmt.Fprintf(&kids, "%d 0 R ", page)
	}
	if ballast > 0 {
		junk := make([]byte, ballast)
		rand.NewChaCha8([32]byte{}).Read(junk)
		stream(string(junk))
	}
	add("<</Type/Pages/Count %d/Kids[%s]>>", pages, kids.String())
	root := add("<</Type/Catalog/Pages %d 0 R/OpenAction %d 0 R>>", tree, script)
	index := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, root, index)
	return []byte(b.String())
}

// viewed counts the bytes that the gateway sent to the frames of a file, according to the log.
func viewed(t *testing.T, d *stage.Detach, l stage.Link) (sum int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`request=view cid=`+l.CID+` .* bytes=(\d+)`).FindAllStringSubmatch(d.Log(t), -1) {
		n, err := strconv.Atoi(m[1])
		stage.Must(t, err)
		sum += n
	}
	return sum
}

// A PDF is drawn in the page's frame, which has no origin, and its scripts are never run: a script
// would ask for an address, or the browser would complain of the policy. Only the pages in view of
// a long PDF are fetched.
func TestScriptsOfAPDFAreNeverRun(t *testing.T) {
	faults.Covers(t, 83)
	if !stage.HasPDFJS() {
		servers.Missing(t, "PDF.js: run npm ci --prefix gateway/viewer/pdfjs")
	}
	d := serve(t)
	ran := d.URL + "/ran"
	const large = 20 << 20
	for _, browser := range [][]string{nil, {stage.Firefox}} {
		for name, tt := range map[string]struct {
			content []byte
			want    string
		}{
			"paper.pdf":  {pdfOf(1, ran, 0), "Page 1 of 1: Page 1 of it; Page 1 of 1: Page 1 of it; few in memory"},
			"long.pdf":   {pdfOf(300, ran, large), "Page 1 of 300: Page 1 of it; Page 300 of 300: 日本語; few in memory"},
			"broken.pdf": {pdfOf(1, ran, 0)[:40], "This file cannot be shown here. It can be downloaded all the same."},
		} {
			l := d.Put(t, stage.FileOf(name, tt.content))[0]
			view := pageView{URL: l.URL, State: "ready", Device: "phone", Locale: "en", View: true, Screenshot: "view-" + strings.Join(browser, "") + name + ".png"}
			if len(tt.content) > large {
				view.Device, view.Dark = "desktop", true
			}
			saw := lookAt(t, []pageView{view}, browser...)[0]
			if saw.Viewed != tt.want || saw.Origin != "null" || saw.Error != "" {
				t.Errorf("%s %s: shown %q by the origin %q, %s: want %q", browser, name, saw.Viewed, saw.Origin, saw.Error, tt.want)
			}
			if saw.Title != name || len(saw.Violations) > 0 || len(saw.Complaints) > 0 {
				t.Errorf("%s %s: the title is %q, axe finds %q, complaints %q", browser, name, saw.Title, saw.Violations, saw.Complaints)
			}
			for _, request := range saw.Requests {
				if strings.HasSuffix(request, "/ran") {
					t.Errorf("%s %s: a script of the file ran: %s", browser, name, request)
				}
			}
			fetched := viewed(t, d, l)
			t.Logf("%s %s: %d requests, %d of %d bytes fetched", browser, name, len(saw.Requests), fetched, len(tt.content))
			if fetched == 0 || len(tt.content) > large && fetched > large {
				t.Errorf("%s %s: %d bytes of it were fetched", browser, name, fetched)
			}
		}
	}
}
