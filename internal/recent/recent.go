// Package recent remembers keys for a time, in bounded memory. What is forgotten early must do no
// harm: a caller only saves work with it.
package recent

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Set remembers each key for a time after it was last added. It is safe for concurrent use.
type Set[K comparable] struct {
	life  time.Duration
	since *lru.Cache[K, time.Time]
}

// NewSet returns a set that remembers at most n keys, and forgets the oldest first. n must be
// positive.
func NewSet[K comparable](n int, life time.Duration) *Set[K] {
	since, err := lru.New[K, time.Time](n)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Set[K]{life, since}
}

// Add remembers a key from now on.
func (s *Set[K]) Add(k K) { s.since.Add(k, time.Now()) }

// Has reports whether the key was added within the set's time.
func (s *Set[K]) Has(k K) bool {
	since, ok := s.since.Peek(k)
	return ok && time.Since(since) < s.life
}
