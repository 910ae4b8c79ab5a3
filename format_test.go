package detach

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// Each duty of the format has a line in a table, in the same order, that names the tests which fail if
// the duty is broken.
func TestEveryDutyOfTheFormatHasATest(t *testing.T) {
	format, err := os.ReadFile("docs/format.md")
	must.Succeed(t, err)
	table, err := os.ReadFile("docs/format-tests.md")
	must.Succeed(t, err)
	for _, m := range untested(string(format), string(table), readTree(t)) {
		t.Error(m)
	}
}

var (
	duty    = regexp.MustCompile(`\bMUST\b`)
	dutyRow = regexp.MustCompile(`(?m)^\| (.*) \| (MUST .*) … \| (.*) \|$`)
)

// untested compares the table with the format and with the tests that exist.
func untested(format, table string, h tree) (found []string) {
	text := strings.Join(strings.Fields(format), " ")
	_, text, _ = strings.Cut(text, "RFC 8174") // which says what MUST means
	rows, duties := dutyRow.FindAllStringSubmatch(table, -1), duty.FindAllStringIndex(text, -1)
	for i, at := range duties {
		words := text[at[0]:min(at[0]+60, len(text))]
		if i >= len(rows) || !strings.HasPrefix(words, rows[i][2]) {
			return append(found, fmt.Sprintf("duty %d, %q…, is not in line %d of the table", i+1, words, i+1))
		}
		found = append(found, testless(rows[i][2], rows[i][3], h)...)
	}
	if len(rows) > len(duties) {
		found = append(found, fmt.Sprintf("the table has %d lines, and the format %d duties", len(rows), len(duties)))
	}
	return found
}

// testless returns what is wrong with the tests in a line's last cell.
func testless(duty, cell string, h tree) (found []string) {
	folder, tests := "", 0
	for _, m := range reference.FindAllStringSubmatch(cell, -1) {
		if !isTest.MatchString(m[1]) {
			folder = m[1]
		} else if _, ok := h.tests[folder][m[1]]; !ok {
			found = append(found, fmt.Sprintf("%q: there is no %s in %q", duty, m[1], folder))
		} else {
			tests++
		}
	}
	if tests == 0 {
		found = append(found, fmt.Sprintf("%q has no test", duty))
	}
	return found
}

func TestMissingDutiesAreFound(t *testing.T) {
	h := tree{tests: map[string]map[string][]int{"ipfs": {"TestBlocks": nil}}}
	const head, format = "RFC 8174\n", "RFC 8174\nA decoder MUST check\nblocks, and MUST NOT guess."
	const first, second = "| x | MUST check … | `ipfs` `TestBlocks` |\n", "| x | MUST NOT guess … | `ipfs` `TestBlocks` |\n"
	for _, c := range []struct{ format, table, want string }{
		{format, first + second, ""},
		{format, first, `duty 2, "MUST NOT guess."…, is not in line 2 of the table`},
		{format, second + first, `duty 1, "MUST check blocks, and MUST NOT guess."…, is not in line 1 of the table`},
		{head, first, "the table has 1 lines, and the format 0 duties"},
		{format, strings.ReplaceAll(first, "Blocks", "Gone") + second, `"MUST check": there is no TestGone in "ipfs"`},
		{format, first + "| x | MUST NOT guess … | see there |\n", `"MUST NOT guess" has no test`},
	} {
		if got := untested(c.format, c.table, h); c.want == "" && len(got) > 0 || c.want != "" && (len(got) == 0 || got[0] != c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
