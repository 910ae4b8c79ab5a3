package recent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet[int](2, time.Minute)
		want := func(keys map[int]bool) {
			t.Helper()
			for k, want := range keys {
				if s.Has(k) != want {
					t.Errorf("after %v: %d is remembered: %v, want %v", time.Now(), k, !want, want)
				}
			}
		}
		s.Add(1)
		s.Add(2)
		want(map[int]bool{0: false, 1: true, 2: true})
		s.Add(3) // one too many
		want(map[int]bool{1: false, 2: true, 3: true})
		time.Sleep(30 * time.Second)
		s.Add(3)
		time.Sleep(30 * time.Second)
		want(map[int]bool{2: false, 3: true})
	})
}
