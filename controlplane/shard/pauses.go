package shard

import (
	"context"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// EndPauses has the clients of databases go on that are paused at the shard's
// PgBouncer though nobody is at work on them, and returns how many: a worker
// that was stopped may have sent its PAUSE when another had long finished, and
// then died.
func (f *Fleet) EndPauses(ctx context.Context, on catalog.Shard, home Home) (int, error) {
	console, err := f.Console(ctx, on.ID)
	if err != nil {
		return 0, err
	}
	defer console.Close()
	entries, err := console.Databases(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for database, is := range entries {
		if !is.Paused || !shardmap.ValidDatabase(database) {
			continue
		}
		_, idle, err := home(ctx, database)
		if err != nil {
			return n, err
		}
		if !idle {
			continue
		}
		if err := console.Resume(ctx, database); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
