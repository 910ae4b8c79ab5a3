// Package faults ties tests to the rows of docs/faults.md.
//
// A test names the faults it covers in its first lines:
//
//	func TestClientVanishes(t *testing.T) {
//		faults.Covers(t, 17)
//
// The test of the tree (faults_test.go) reads these calls from the source and compares them with
// the table: no fault without a test or a reason, and no test that the table does not name.
package faults

import "testing"

// Count is how many faults docs/faults.md has. They keep their numbers.
const Count = 105

// Covers says that the test covers the faults with these numbers of docs/faults.md. The numbers
// must be literals, so that they can be read from the source.
func Covers(t testing.TB, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if n < 1 || n > Count {
			t.Errorf("there is no fault %d", n)
		}
	}
}
