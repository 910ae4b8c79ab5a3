// Package readings has odd mails, and says whether mail programs read them alike. Only tests import
// it.
//
// The programs are Python's email package, mailparser and postal-mime. TestReadings of
// internal/rewrite holds Detach to the readings; that of e2e/parsers holds the readings to the
// programs.
package readings

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A Reading is one mail with one file, and how programs read it. In the JSON each character of Mail
// and File stands for a byte.
type Reading struct {
	Name string `json:"name"`
	Mail string `json:"mail"`
	File string `json:"file"` // the file, decoded as one of the programs decodes it

	// Alike is true if all programs find this file and no other. Then it is detached, unless Kept
	// says why not. Otherwise it stays, unless Detached says why not.
	Alike    bool   `json:"alike"`
	Kept     string `json:"kept"`
	Detached string `json:"detached"`
}

// Detaches reports whether Detach takes the file out.
func (r Reading) Detaches() bool { return r.Alike && r.Kept == "" || r.Detached != "" }

//go:embed readings.jsonl
var file []byte

// All returns the readings in their order.
func All(tb testing.TB) (all []Reading) {
	tb.Helper()
	for line := range bytes.Lines(file) {
		var r Reading
		must.Succeed(tb, json.Unmarshal(line, &r))
		r.Mail, r.File = toBytes(r.Mail), toBytes(r.File)
		all = append(all, r)
	}
	return all
}

// toBytes returns the bytes that the characters of s stand for.
func toBytes(s string) string {
	b := make([]byte, 0, utf8.RuneCountInString(s))
	for _, c := range s {
		b = append(b, byte(c))
	}
	return string(b)
}
