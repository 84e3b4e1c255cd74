package schema

import (
	"bytes"
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// look reads what there is now; before is what was seen last, or nil, and
// doubted whether it has been doubted since.
func (c *Cache) look(ctx context.Context, before *seen, doubted bool, of *Exposed, conn *pgconn.PgConn) (*seen, *Schema, error) {
	now := &seen{at: c.now()}
	if before != nil && before.stamp == nil {
		return c.lookInside(ctx, now, of, conn)
	}
	stamp, mark, err := stampAndMark(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	now.stamp = stamp
	if before != nil && bytes.Equal(stamp, before.stamp) {
		if before.by != nil && doubted {
			return c.lookBy(ctx, now, markKey{mark, of.key}, of, conn)
		}
		if schema := c.schemas.get(before.fingerprint); schema != nil && before.by == nil {
			now.fingerprint = before.fingerprint
			return now, schema, nil
		}
	}
	if mark == "" {
		return c.lookInside(ctx, now, of, conn)
	}
	key := markKey{mark, of.key}
	if known, ok := c.marks.Get(key); ok && known.disputed.Load() {
		return c.lookInside(ctx, now, of, conn)
	}
	if schema := c.byMark(now, key); schema != nil {
		return now, schema, nil
	}
	done, err := c.reading.take(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if schema := c.byMark(now, key); schema != nil {
		return now, schema, nil
	}
	return c.lookBy(ctx, now, key, of, conn)
}

// byMark finds the schema of a database with a known mark.
func (c *Cache) byMark(now *seen, key markKey) *Schema {
	known, ok := c.marks.Get(key)
	if !ok || known.disputed.Load() {
		return nil
	}
	schema := c.schemas.get(known.fingerprint)
	if schema != nil {
		now.fingerprint, now.stamp, now.by = known.fingerprint, known.stamp, known
		c.shared.Add(1)
	}
	return schema
}

// lookBy reads the schema of a database with the mark in key, and remembers it for
// others with that mark if nothing was changed meanwhile: what a change in between
// would make of it is no matter for this database, whose stamp is the older one
// still, but for them.
func (c *Cache) lookBy(ctx context.Context, now *seen, key markKey, of *Exposed, conn *pgconn.PgConn) (*seen, *Schema, error) {
	now, schema, err := c.lookInside(ctx, now, of, conn)
	if err != nil {
		return nil, nil, err
	}
	_, mark, err := stampAndMark(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	if mark != "" && mark == key.mark {
		known, there, _ := c.marks.PeekOrAdd(key, &marked{fingerprint: now.fingerprint, stamp: now.stamp})
		if there && known.fingerprint != now.fingerprint {
			known.disputed.Store(true)
		}
	}
	return now, schema, nil
}

// lookInside reads the fingerprint, and the schema if that is unknown.
func (c *Cache) lookInside(ctx context.Context, now *seen, of *Exposed, conn *pgconn.PgConn) (*seen, *Schema, error) {
	var err error
	c.digests.Add(1)
	if now.fingerprint, err = digest(ctx, conn, of.literal); err != nil {
		return nil, nil, err
	}
	if schema := c.schemas.get(now.fingerprint); schema != nil {
		return now, schema, nil
	}
	done, err := c.loading.take(ctx, now.fingerprint)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if schema := c.schemas.get(now.fingerprint); schema != nil {
		return now, schema, nil
	}
	c.documents.Add(1)
	schema, err := load(ctx, conn, of.literal, c.opts.Document)
	if err != nil {
		return nil, nil, err
	}
	// A change between the reads makes this another schema than the digest's,
	// and a newer one: what was loaded is what counts. The stamp is the older one still.
	now.fingerprint = schema.Fingerprint
	c.schemas.add(schema)
	return now, schema, nil
}
