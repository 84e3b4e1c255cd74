// Package sleep waits for time to pass, no longer than a context allows.
//
// Import law: sleep imports no other package of this module.
package sleep

import (
	"context"
	"time"
)

// For returns nil after d (at once if d is not positive), and ctx's error when it ends first.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
