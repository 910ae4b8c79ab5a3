package detach

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	// A link to a heading, of the same page or of another one.
	headingLink = regexp.MustCompile(`\]\(([\w.-]*)(#[^)]+)\)`)
)

// The documentation names tests that exist, and its links lead to headings that exist.
func TestDocumentationNamesWhatExists(t *testing.T) {
	h := readTree(t)
	tests := make(map[string]bool)
	for _, folder := range h.tests {
		for name := range folder {
			tests[name] = true
		}
	}
	pages, err := filepath.Glob("docs/*.md")
	must.Succeed(t, err)
	names, links := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		must.Succeed(t, err)
		// A link may be wrapped.
		unwrapped := strings.Join(strings.Fields(string(text)), " ")
		for _, m := range testName.FindAllStringSubmatch(unwrapped, -1) {
			if names++; !tests[m[1]] {
				t.Errorf("%s: there is no %s", page, m[1])
			}
		}
		for _, m := range headingLink.FindAllStringSubmatch(unwrapped, -1) {
			target := m[1]
			if target == "" {
				target = filepath.Base(page)
			}
			if links++; !h.headings[target+m[2]] {
				t.Errorf("%s: there is no heading %s", page, target+m[2])
			}
		}
	}
	if names < 100 || links < 30 {
		t.Errorf("only %d names and %d links seen", names, links)
	}
}
