package detach

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

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// tree has everything that the table of faults may refer to.
type tree struct {
	tests    map[string]map[string][]int // by folder and test function: the faults it covers
	programs map[string]bool             // folders with a main package
	headings map[string]bool             // of the documentation, FILE.md#anchor
}

// Every fault has a row, and every row names the tests that cover the fault, or a place in the
// documentation that says why it needs no test.
func TestEveryFaultHasATestOrAReason(t *testing.T) {
	table, err := os.ReadFile("docs/faults.md")
	must.Succeed(t, err)
	for _, m := range mistakes(string(table), readTree(t)) {
		t.Error(m)
	}
}

var (
	faultRow = regexp.MustCompile(`(?m)^\| *(\d+) *\|(.*)\|[ \t]*$`)
	// A reference in the last cell: a folder, a test in the folder named last, a program, or a link.
	reference  = regexp.MustCompile("`([^`]+)`|\\]\\(([^)]*)\\)")
	isTest     = regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)
	numbered   = regexp.MustCompile(`^TestFaults?\d`)
	notInSlugs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// mistakes compares the table with the tree.
func mistakes(table string, h tree) (found []string) {
	complain := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	named := make(map[int][]string) // by row: FOLDER TEST
	for _, row := range faultRow.FindAllStringSubmatch(table, -1) {
		n, _ := strconv.Atoi(row[1])
		cells := strings.Split(row[2], "|")
		switch {
		case named[n] != nil:
			complain("row %d: it stands twice", n)
		case n < 1 || n > faults.Count:
			complain("row %d: there are %d faults", n, faults.Count)
		case len(cells) != 3 || strings.TrimSpace(cells[0]) == "" || strings.TrimSpace(cells[1]) == "":
			complain("row %d: want what goes wrong, the outcome and the tests", n)
		}
		tests, wrong := references(n, cells[len(cells)-1], h)
		named[n] = append([]string{}, tests...)
		found = append(found, wrong...)
	}
	for n := 1; n <= faults.Count; n++ {
		if named[n] == nil {
			complain("row %d: it is missing", n)
		}
	}
	for folder, tests := range h.tests {
		for test, numbers := range tests {
			if numbered.MatchString(test) {
				complain("%s %s: want a name that says the behavior, and faults.Covers", folder, test)
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
func references(row int, cell string, h tree) (tests, wrong []string) {
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
			numbers, ok := h.tests[folder][word]
			if !ok {
				complain("there is no %s in %q", word, folder)
			} else if !strings.HasPrefix(word, "Fuzz") && !slices.Contains(numbers, row) {
				// A fuzz target holds one property against everything, so it names no faults.
				complain("%s does not cover it", word)
			}
		}
	}
	if len(tests) == 0 && why == 0 {
		complain("neither a test nor a reason")
	}
	return tests, wrong
}

// readTree reads the tree around this package.
func readTree(t *testing.T) tree {
	t.Helper()
	h := tree{tests: make(map[string]map[string][]int), programs: make(map[string]bool), headings: make(map[string]bool)}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != "." && strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "artefacts" {
				return fs.SkipDir
			}
			return nil
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		switch {
		case strings.HasSuffix(name, ".go"):
			return h.readGo(path, folder, strings.HasSuffix(name, "_test.go"))
		case folder == "docs" && strings.HasSuffix(name, ".md"):
			return h.readHeadings(path, name)
		}
		return nil
	})
	must.Succeed(t, err)
	return h
}

func (h tree) readGo(path, folder string, tests bool) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if !tests {
		h.programs[folder] = h.programs[folder] || f.Name.Name == "main"
		return nil
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !isTest.MatchString(fn.Name.Name) || fn.Name.Name == "TestMain" {
			continue
		}
		if h.tests[folder] == nil {
			h.tests[folder] = make(map[string][]int)
		}
		h.tests[folder][fn.Name.Name] = covered(fn)
	}
	return nil
}

// covered reads the numbers that a test gives to faults.Covers.
func covered(fn *ast.FuncDecl) (numbers []int) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Covers" {
			return true
		}
		for _, arg := range call.Args[1:] {
			if number, ok := arg.(*ast.BasicLit); ok {
				n, _ := strconv.Atoi(number.Value)
				numbers = append(numbers, n)
			}
		}
		return true
	})
	return numbers
}

func (h tree) readHeadings(path, name string) error {
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

// slug returns a heading as links to it write it.
func slug(heading string) string {
	return strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// Each rule for the table finds its mistake, in a table or a tree that breaks it.
func TestMistakesInTheTableAreFound(t *testing.T) {
	small := func() tree {
		return tree{
			tests:    map[string]map[string][]int{"proxy": {"TestEnds": {1, 2}, "TestPlain": nil, "FuzzDots": nil}},
			programs: map[string]bool{"e2e/chaos": true},
			headings: map[string]bool{"threat-model.md#power-failure": true},
		}
	}
	row := func(n int, tests string) string {
		return fmt.Sprintf("| %d | a fault | its outcome | %s |\n", n, tests)
	}
	var rest strings.Builder
	for n := 3; n <= faults.Count; n++ {
		rest.WriteString(row(n, "[why](threat-model.md#power-failure)"))
	}
	first, second := row(1, "`proxy` `TestEnds`"), row(2, "`proxy` `TestEnds`, `FuzzDots`, `go run ./e2e/chaos`")
	for _, c := range []struct {
		want, table string
		change      func(h tree)
	}{
		{"", first + second, nil},
		{"row 1: it is missing", second, nil},
		{"row 1: it stands twice", first + first + second, nil},
		{fmt.Sprintf("row 999: there are %d faults", faults.Count), first + second + row(999, "`proxy` `FuzzDots`"), nil},
		{"row 1: want what goes wrong, the outcome and the tests", "| 1 | a fault | `proxy` `TestEnds` |\n" + second, nil},
		{`row 1: there is no TestGone in "proxy"`, row(1, "`proxy` `TestEnds`, `TestGone`") + second, nil},
		{`row 1: there is no TestEnds in "ipfs"`, row(1, "`proxy` `TestEnds`, `ipfs` `TestEnds`") + second, nil},
		{"row 1: there are no tests in elsewhere", row(1, "`elsewhere`, `proxy` `TestEnds`") + second, nil},
		{"row 2: proxy TestEnds is not named", first + row(2, "[why](threat-model.md#power-failure)"), nil},
		{"row 3: proxy TestNew is not named", first + second, func(h tree) { h.tests["proxy"]["TestNew"] = []int{3} }},
		{"row 200: proxy TestNew is not named", first + second, func(h tree) { h.tests["proxy"]["TestNew"] = []int{200} }},
		{"proxy TestFault3New: want a name that says the behavior, and faults.Covers", first + second, func(h tree) { h.tests["proxy"]["TestFault3New"] = nil }},
		{"row 1: TestPlain does not cover it", row(1, "`proxy` `TestEnds`, `TestPlain`") + second, nil},
		{"row 2: neither a test nor a reason", first + row(2, "see there"), nil},
		{"row 2: the documentation has no heading threat-model.md#nowhere", first + row(2, "[why](threat-model.md#nowhere)"), nil},
		{"row 2: there is no program in e2e/gone", first + row(2, "`proxy` `TestEnds`, `go run ./e2e/gone`"), nil},
	} {
		h := small()
		if c.change != nil {
			c.change(h)
		}
		found := mistakes(c.table+rest.String(), h)
		if c.want == "" && len(found) > 0 || c.want != "" && !slices.Contains(found, c.want) {
			t.Errorf("found %q, want %q", found, c.want)
		}
	}
}
