package memory

import "testing"

func TestAccountTakesFromItsBudget(t *testing.T) {
	const size, free = 1 << 20, 1000
	b := New(size)
	a := NewAccount(b, free)
	if !a.Take(free) {
		t.Error("no free bytes")
	}
	wantUsed(t, b, 0)
	n := int64(0)
	for a.Take(100) {
		n += 100
	}
	if used := b.Used(); used > size/4*3 || n > used || n < used-accountStep {
		t.Errorf("%d bytes taken by %d of %d", used, n, size)
	}
	a.Give(n)
	if used := b.Used(); used > accountStep {
		t.Errorf("%d bytes are taken after all were given back", used)
	}
	if !a.Take(size / 2) {
		t.Error("the bytes given back cannot be taken again")
	}
	a.Close()
	a.Close()
	wantUsed(t, b, 0)
}

func TestAccountWithoutBudgetHasNoLimit(t *testing.T) {
	a := NewAccount(nil, 0)
	if !a.Take(1 << 40) {
		t.Error("there is a limit")
	}
	a.Give(1 << 40)
	a.Close()
}
