// Package must ends a test at an error outside the test's subject.
package must

import "testing"

// Succeed fails the test immediately if err is not nil.
func Succeed(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
