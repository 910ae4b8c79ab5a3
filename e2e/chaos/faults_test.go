package main

import (
	"reflect"
	"testing"
	"time"
)

// A seed gives the same plan and the same letters on every machine, so that a finding can be sought
// again.
func TestSameSeedIsTheSamePlan(t *testing.T) {
	for seed := range uint64(20) {
		one, two := plan(seed, 10*time.Minute, kubo), plan(seed, 10*time.Minute, kubo)
		if !reflect.DeepEqual(one, two) {
			t.Fatalf("seed %d: two plans", seed)
		}
		for victim, faults := range plan(seed, time.Minute, embedded) {
			if want := one[victim][:len(faults)]; !reflect.DeepEqual(faults, want) {
				t.Errorf("seed %d, %s: a shorter run on another store gets %v, want %v", seed, victim, faults, want)
			}
		}
	}
	if one, two := compose(1, 7), compose(1, 7); !reflect.DeepEqual(one, two) {
		t.Error("two letters of one number")
	}
}
