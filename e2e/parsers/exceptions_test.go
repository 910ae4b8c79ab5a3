package parsers

import (
	"encoding/csv"
	"os"
	"slices"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// exceptions has, for each mail, the rules that it may break.
type exceptions map[string][]string

// readExceptions reads exceptions.tsv, whose lines are a mail, a rule, and a reason.
func readExceptions(t *testing.T) exceptions {
	t.Helper()
	f, err := os.Open("exceptions.tsv")
	must.Succeed(t, err)
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, 3
	rows, err := r.ReadAll()
	must.Succeed(t, err)
	ex := exceptions{}
	for _, row := range rows {
		if len(row[2]) < len("as above") {
			t.Errorf("exceptions.tsv: %s, %s: no reason", row[0], row[1])
		}
		ex[row[0]] = append(ex[row[0]], row[1])
	}
	return ex
}

// check reports complaints about a mail that are no exceptions, and exceptions without a complaint.
// The exceptions for the mails in also need no complaint.
func (ex exceptions) check(t *testing.T, mail string, complaints []complaint, also ...string) {
	t.Helper()
	allowed := slices.Clone(ex[mail])
	for _, other := range also {
		allowed = append(allowed, ex[other]...)
	}
	for _, c := range complaints {
		if !slices.Contains(allowed, c.rule) {
			t.Errorf("%s\t%s\t%s", mail, c.rule, c.detail)
		}
	}
	for _, rule := range ex[mail] {
		if !slices.ContainsFunc(complaints, func(c complaint) bool { return c.rule == rule }) {
			t.Errorf("%s: the exception %q is no longer needed", mail, rule)
		}
	}
}
