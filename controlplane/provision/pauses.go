package provision

import (
	"context"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// pausesEvery is how often a shard's PgBouncer is looked at for pauses that
// whoever made them has forgotten.
const pausesEvery = 15 * time.Second

// endPauses lets clients go on that nobody will.
func (k *keeper) endPauses(ctx context.Context, on catalog.Shard) error {
	k.mu.Lock()
	t := k.shards[on.ID]
	due := !time.Now().Before(t.pauses)
	k.mu.Unlock()
	if !due {
		return nil
	}
	n, err := k.fleet.EndPauses(ctx, on, k.home)
	if n > 0 {
		k.log.WarnContext(ctx, "clients were left paused, and go on", "shard", on.ID, "databases", n)
	}
	if err == nil {
		k.mu.Lock()
		t.pauses = time.Now().Add(pausesEvery)
		k.mu.Unlock()
	}
	return err
}
