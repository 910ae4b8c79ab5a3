package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// faultCount is how many cases docs/faults.md has. They keep their numbers for ever.
const faultCount = 105

// house is what the table of faults may refer to.
type house struct {
	tests    map[string][]string // the test functions of each folder
	programs map[string]bool     // folders with a main package
	headings map[string]bool     // of the documentation, FILE.md#anchor
}

// Every fault has a row, and every row the tests that carry its number, or a place in the documentation which says why the
// fault cannot happen. So neither a fault nor a test of one can be forgotten.
func TestFaultsTable(t *testing.T) {
	table, err := os.ReadFile("../docs/faults.md")
	must(t, err)
	for _, m := range mistakes(string(table), readHouse(t)) {
		t.Error(m)
	}
}

var (
	faultRow = regexp.MustCompile(`(?m)^\| *(\d+) *\|(.*)\|[ \t]*$`)
	// A reference in the last cell: a folder, a test in the folder named last, a program, or a link.
	reference  = regexp.MustCompile("`([^`]+)`|\\]\\(([^)]*)\\)")
	isTest     = regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)
	faultTest  = regexp.MustCompile(`^TestFault(\d+(?:_\d+)*)_[A-Z]`)
	isFaulty   = regexp.MustCompile(`^TestFaults?\d`)
	notInSlugs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// mistakes compares the table with what there is.
func mistakes(table string, h house) (found []string) {
	complain := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	named := make(map[int][]string) // by row: FOLDER TEST
	for _, row := range faultRow.FindAllStringSubmatch(table, -1) {
		n, _ := strconv.Atoi(row[1])
		cells := strings.Split(row[2], "|")
		switch {
		case named[n] != nil:
			complain("row %d: it is there twice", n)
		case n < 1 || n > faultCount:
			complain("row %d: there are %d faults", n, faultCount)
		case len(cells) != 3 || strings.TrimSpace(cells[0]) == "" || strings.TrimSpace(cells[1]) == "":
			complain("row %d: want what goes wrong, the outcome and the tests", n)
		}
		tests, wrong := references(n, cells[len(cells)-1], h)
		named[n] = append([]string{}, tests...)
		found = append(found, wrong...)
	}
	for n := 1; n <= faultCount; n++ {
		if named[n] == nil {
			complain("row %d: it is missing", n)
		}
	}
	for folder, tests := range h.tests {
		for _, test := range tests {
			numbers := numbersOf(test)
			if numbers == nil && isFaulty.MatchString(test) {
				complain("%s %s: want a name of the form TestFaultNN_NN_Words", folder, test)
			}
			for _, n := range numbers {
				if !slices.Contains(named[n], folder+" "+test) {
					complain("row %d: %s %s is not named", n, folder, test)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// references reads the last cell of a row, and returns the tests in it.
func references(row int, cell string, h house) (tests, wrong []string) {
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("row %d: ", row)+fmt.Sprintf(format, args...))
	}
	folder, why := "", 0
	for _, m := range reference.FindAllStringSubmatch(cell, -1) {
		word := m[1]
		program, isProgram := strings.CutPrefix(word, "go run ./")
		switch {
		case word == "":
			why++
			if !h.headings[m[2]] {
				complain("the documentation has no heading %s", m[2])
			}
		case isProgram:
			why++
			if !h.programs[program] {
				complain("there is no program in %s", program)
			}
		case !isTest.MatchString(word):
			folder = word
			if h.tests[folder] == nil {
				complain("there are no tests in %s", folder)
			}
		default:
			tests = append(tests, folder+" "+word)
			if !slices.Contains(h.tests[folder], word) {
				complain("there is no %s in %q", word, folder)
			}
			// What a fuzz target is good for says its name; it holds one property against everything.
			if !strings.HasPrefix(word, "Fuzz") && !slices.Contains(numbersOf(word), row) {
				complain("%s does not carry the number", word)
			}
		}
	}
	if len(tests) == 0 && why == 0 {
		complain("neither a test nor a reason")
	}
	return tests, wrong
}

// numbersOf are the faults that a test carries in its name.
func numbersOf(test string) (numbers []int) {
	m := faultTest.FindStringSubmatch(test)
	if m == nil {
		return nil
	}
	for _, digits := range strings.Split(m[1], "_") {
		n, _ := strconv.Atoi(digits)
		numbers = append(numbers, n)
	}
	return numbers
}

// readHouse reads the tree around this package.
func readHouse(t *testing.T) house {
	t.Helper()
	h := house{tests: make(map[string][]string), programs: make(map[string]bool), headings: make(map[string]bool)}
	must(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != ".." && strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "artefacts" {
				return fs.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(relative))
		switch {
		case strings.HasSuffix(name, ".go"):
			return h.readGo(path, folder, strings.HasSuffix(name, "_test.go"))
		case folder == "docs" && strings.HasSuffix(name, ".md"):
			return h.readHeadings(path, name)
		}
		return nil
	}))
	return h
}

func (h house) readGo(path, folder string, tests bool) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if !tests {
		h.programs[folder] = h.programs[folder] || f.Name.Name == "main"
		return nil
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && isTest.MatchString(fn.Name.Name) && fn.Name.Name != "TestMain" {
			h.tests[folder] = append(h.tests[folder], fn.Name.Name)
		}
	}
	return nil
}

func (h house) readHeadings(path, name string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fenced := false
	for _, line := range strings.Split(string(text), "\n") {
		fenced = fenced != strings.HasPrefix(line, "```")
		level := len(line) - len(strings.TrimLeft(line, "#"))
		if heading, ok := strings.CutPrefix(line[level:], " "); ok && level > 0 && !fenced {
			h.headings[name+"#"+slug(heading)] = true
		}
	}
	return nil
}

// slug is what a link calls a heading.
func slug(heading string) string {
	return strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// The table above can fail: each rule on a table, or a tree, that breaks it.
func TestFaultsTableSeesMistakes(t *testing.T) {
	tree := func() house {
		return house{
			tests:    map[string][]string{"proxy": {"TestFault01_02_Ends", "TestPlain", "FuzzDots"}},
			programs: map[string]bool{"e2e/chaos": true},
			headings: map[string]bool{"threat-model.md#power-failure": true},
		}
	}
	row := func(n int, tests string) string {
		return fmt.Sprintf("| %d | a fault | its outcome | %s |\n", n, tests)
	}
	var rest strings.Builder
	for n := 3; n <= faultCount; n++ {
		rest.WriteString(row(n, "[why](threat-model.md#power-failure)"))
	}
	first, second := row(1, "`proxy` `TestFault01_02_Ends`"), row(2, "`proxy` `TestFault01_02_Ends`, `FuzzDots`, `go run ./e2e/chaos`")
	for _, c := range []struct {
		want, table string
		change      func(h house)
	}{
		{"", first + second, nil},
		{"row 1: it is missing", second, nil},
		{"row 1: it is there twice", first + first + second, nil},
		{"row 106: there are 105 faults", first + second + row(106, "`proxy` `FuzzDots`"), nil},
		{"row 1: want what goes wrong, the outcome and the tests", "| 1 | a fault | `proxy` `TestFault01_02_Ends` |\n" + second, nil},
		{`row 1: there is no TestFault01_Gone in "proxy"`, row(1, "`proxy` `TestFault01_02_Ends`, `TestFault01_Gone`") + second, nil},
		{`row 1: there is no TestFault01_02_Ends in "ipfs"`, row(1, "`proxy` `TestFault01_02_Ends`, `ipfs` `TestFault01_02_Ends`") + second, nil},
		{"row 1: there are no tests in elsewhere", row(1, "`elsewhere`, `proxy` `TestFault01_02_Ends`") + second, nil},
		{"row 2: proxy TestFault01_02_Ends is not named", first + row(2, "[why](threat-model.md#power-failure)"), nil},
		{"row 3: proxy TestFault03_New is not named", first + second, func(h house) { h.tests["proxy"] = append(h.tests["proxy"], "TestFault03_New") }},
		{"row 200: proxy TestFault200_New is not named", first + second, func(h house) { h.tests["proxy"] = append(h.tests["proxy"], "TestFault200_New") }},
		{"proxy TestFaults3New: want a name of the form TestFaultNN_NN_Words", first + second, func(h house) { h.tests["proxy"] = append(h.tests["proxy"], "TestFaults3New") }},
		{"row 1: TestPlain does not carry the number", row(1, "`proxy` `TestFault01_02_Ends`, `TestPlain`") + second, nil},
		{"row 2: neither a test nor a reason", first + row(2, "see there"), nil},
		{"row 2: the documentation has no heading threat-model.md#nowhere", first + row(2, "[why](threat-model.md#nowhere)"), nil},
		{"row 2: there is no program in e2e/gone", first + row(2, "`proxy` `TestFault01_02_Ends`, `go run ./e2e/gone`"), nil},
	} {
		h := tree()
		if c.change != nil {
			c.change(h)
		}
		found := mistakes(c.table+rest.String(), h)
		if c.want == "" && len(found) > 0 || c.want != "" && !slices.Contains(found, c.want) {
			t.Errorf("found %q, want %q", found, c.want)
		}
	}
}
