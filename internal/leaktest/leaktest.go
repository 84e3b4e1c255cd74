// Package leaktest finds goroutines that tests leave behind. Unlike goleak
// alone, which waits for less than half a second, it gives those that are
// ending the time that a busy machine needs.
//
// Import law: leaktest imports no other package of this module, and only tests
// import it.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a goroutine may take to end.
const patience = 30 * time.Second

// None fails the test if goroutines run on that the options do not exclude.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()
	if err := find(options); err != nil {
		t.Error(err)
	}
}

// Run calls run, a TestMain's, and returns its code, or 1 if it succeeded and
// goroutines run on all the same.
func Run(run func() int) int {
	code := run()
	if code != 0 {
		return code // what a failed test left tells nothing
	}
	if err := find(nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func find(options []goleak.Option) error {
	for deadline := time.Now().Add(patience); ; {
		err := goleak.Find(options...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
