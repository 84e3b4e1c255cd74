package pgtest

import (
	"testing"
	"time"
)

// Eventually polls until check holds, for a minute at most. Unlike testify's
// it calls check in the test's own goroutine, so that check may fail the test.
func Eventually(t testing.TB, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
