package memory

// accountStep is the least that an Account takes from its budget at a time.
const accountStep = 16 << 10

// An Account is what one mail or request has taken from a budget by TryAcquire, in many small
// pieces. Close gives all of it back. It is not safe for concurrent use.
type Account struct {
	budget *Budget
	taken  int64
	spare  int64 // may be taken without asking the budget
}

// NewAccount returns an account that does not take its first free bytes from b: they count
// elsewhere. b may be nil.
func NewAccount(b *Budget, free int64) *Account { return &Account{budget: b, spare: free} }

// Take takes n bytes, and reports whether it took them.
func (a *Account) Take(n int64) bool {
	if n > a.spare {
		missing := max(n-a.spare, accountStep)
		if !a.budget.TryAcquire(missing) {
			return false
		}
		a.taken += missing
		a.spare += missing
	}
	a.spare -= n
	return true
}

// Give gives n bytes back.
func (a *Account) Give(n int64) {
	a.spare += n
	if unused := min(a.spare-accountStep, a.taken); unused > 0 {
		a.budget.Release(unused)
		a.taken -= unused
		a.spare -= unused
	}
}

// Close gives everything back. It may be called again.
func (a *Account) Close() {
	a.budget.Release(a.taken)
	a.taken, a.spare = 0, 0
}
