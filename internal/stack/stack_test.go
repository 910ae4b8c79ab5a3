package stack

import (
	"strings"
	"testing"
)

func TestTraceNamesItsCallersWithoutArguments(t *testing.T) {
	trace := func(secret string) string { return secret[:0] + Trace() }("a secret argument")
	calls := strings.Split(trace, "\n")
	if len(calls) < 2 || !strings.Contains(calls[1], "TestTraceNamesItsCallersWithoutArguments stack_test.go:") {
		t.Errorf("got %q, want this test in the second line", calls)
	}
	if strings.Contains(trace, "secret") || strings.ContainsAny(trace, "({") {
		t.Errorf("got arguments: %s", trace)
	}
}
