// Package faults ties tests to the rows of docs/faults.md.
//
// A test names the faults it covers in its first lines:
//
//	func TestClientVanishes(t *testing.T) {
//		faults.Covers(t, 17)
//
// A test of the whole tree (faults_test.go) reads these calls from the source and compares them
// with the table: every fault must have a test or a reason, and the table must name every such
// test.
package faults

import "testing"

// Count is how many faults docs/faults.md has. They keep their numbers.
const Count = 110

// Covers declares that the test covers the faults with these numbers in docs/faults.md. The numbers
// must be literals, because faults_test.go reads them from the source.
func Covers(t testing.TB, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if n < 1 || n > Count {
			t.Errorf("docs/faults.md has no fault %d", n)
		}
	}
}
