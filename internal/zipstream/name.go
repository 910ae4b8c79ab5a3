package zipstream

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// maxExtension is what of a name's end is taken for its extension.
const maxExtension = 20

// Names makes file names unique: "a.pdf", "a (2).pdf". It goes by what file systems take for the same, some of
// which know no difference between capitals and small letters, or between two ways to write an é.
func Names(names []string) []string {
	unique := make([]string, len(names))
	taken := make(map[string]bool, len(names))
	next := make(map[string]int) // where counting goes on for a name
	for i, name := range names {
		candidate, key := name, fold(name)
		for n := max(2, next[key]); taken[fold(candidate)]; n++ {
			candidate = numbered(name, n)
			next[key] = n + 1
		}
		unique[i], taken[fold(candidate)] = candidate, true
	}
	return unique
}

func fold(name string) string { return strings.ToLower(norm.NFC.String(name)) }

func numbered(name string, n int) string {
	ext := filepath.Ext(name)
	if len(ext) > maxExtension || len(ext) == len(name) {
		ext = ""
	}
	return fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext)
}
