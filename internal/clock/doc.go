// Package clock tells a machine's clock that can be trusted from one that was set wrong. Its
// invariant:
//
//	A wrong clock gives no file a wrong end, and ends no file early.
//
// The newest time that was trusted is recorded in a file, together with the machine's uptime, which
// nobody can set. [Clock.Check] refuses to store while the clock is more than a day behind the
// recorded time, and [Clock.Trusted] refuses to end anything while it is behind, or ahead of what
// can have passed since. After a jump ahead, the clock is trusted again once it has run evenly for a
// day, or after [Clock.Trust].
package clock
