package move

import (
	"context"

	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

// stamps are those of the schema that a copy carries; nil: the database has none.
type stamps struct {
	copied *int64 // the source's, in the snapshot that was copied
	made   *int64 // the target's, when all of the schema was made
}

// readStamp reads the stamp of a database's schema; nil if it has none.
func readStamp(ctx context.Context, q schema.Querier) (*int64, error) {
	var known bool
	if err := q.QueryRow(ctx, schemachange.Known).Scan(&known); err != nil || !known {
		return nil, err
	}
	var stamp int64
	err := q.QueryRow(ctx, schemachange.Stamp).Scan(&stamp)
	return &stamp, err
}

// vouch has nodes that know the source's schema by its stamp know the target's
// by the same one, so that none reads it anew, over cold connections, while the
// tenant's first requests wait for it after the flip. What the tenant changes
// later has another stamp at the source, what anybody changes at the target has
// one there. Only a schema that was compared and found equal is vouched for,
// and none of another version of Postgres, of which nodes may read another one.
func (c *copier) vouch(ctx context.Context) error {
	s := c.stamps
	if s.copied == nil || s.made == nil || *s.copied == *s.made || c.r.Data.Receipt.Verification.Objects != Equal || pg.Major(c.src) != pg.Major(c.dst) {
		return nil
	}
	_, err := c.dst.Exec(ctx, schemachange.Vouch, *s.copied, *s.made)
	return err
}
