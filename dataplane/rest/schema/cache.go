package schema

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/sleep"
)

// Options bounds a [Cache]. Zero fields take the defaults.
type Options struct {
	Databases int           // databases remembered; default 20,000 (about 400 bytes each)
	Distinct  int           // distinct schemas kept; default 512
	TTL       time.Duration // of a database without stamps, a fingerprint older than this is read again; default 30 s
	Pause     time.Duration // least time between two reads of such a database's fingerprint; default 250 ms
}

func (o Options) withDefaults() Options {
	def(&o.Databases, 20_000)
	def(&o.Distinct, 512)
	def(&o.TTL, 30*time.Second)
	def(&o.Pause, 250*time.Millisecond)
	return o
}

func def[T int | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// Cache maps databases to schemas by fingerprint. What it knows of a database
// holds as long as the database's stamp (see internal/schemachange) is the one
// that it was read with: whoever runs a statement by it lets the database check
// that in the same transaction, and calls [Cache.Doubt] when it is not.
//
// A database without stamps is looked at again now and then, and the cache never
// trusted with a refusal: whoever would answer "no such column" or was refused by
// Postgres calls [Cache.Doubt], and gets a schema whose fingerprint was read after that.
type Cache struct {
	opts      Options
	databases *lru.Cache[key, *entry]
	schemas   *lru.Cache[Fingerprint, *Schema]
}

// key is a database and what of it is exposed.
type key struct{ database, exposed string }

// Exposed is a list of schemas that clients may use.
type Exposed struct {
	key     string
	literal []byte // as an array literal
}

// Expose makes an Exposed of names.
func Expose(names []string) *Exposed {
	literal := arrayLiteral(names)
	return &Exposed{key: string(literal), literal: literal}
}

// Known is what is known of a database.
type Known struct {
	// Schema is nil when nothing is: then call [Cache.Refresh].
	*Schema
	// Stamp is what Schema was read with; nil in a database without stamps.
	Stamp []byte
}

// entry is what is remembered of one database.
type entry struct {
	reading chan struct{}        // holds one: whoever reads the fingerprint
	seen    atomic.Pointer[seen] // nil until first read
	doubted atomic.Int64         // UnixNano of the latest doubt
}

type seen struct {
	fingerprint Fingerprint
	stamp       []byte
	at          time.Time // when the read began: what was committed before is in it
}

// NewCache makes an empty cache.
func NewCache(opts Options) *Cache {
	opts = opts.withDefaults()
	databases, err := lru.New[key, *entry](opts.Databases)
	if err != nil { // sizes are positive
		panic("schema: " + err.Error())
	}
	schemas, err := lru.New[Fingerprint, *Schema](opts.Distinct)
	if err != nil {
		panic("schema: " + err.Error())
	}
	return &Cache{opts: opts, databases: databases, schemas: schemas}
}

// Lookup gives what is known of a database without asking it. Nothing is when
// the fingerprint is unknown, in doubt, or too old for a database without stamps.
func (c *Cache) Lookup(database string, of *Exposed) Known {
	e, ok := c.databases.Get(key{database, of.key})
	if !ok {
		return Known{}
	}
	return c.lookup(e)
}

func (c *Cache) lookup(e *entry) Known {
	s := e.seen.Load()
	if s == nil || s.at.UnixNano() < e.doubted.Load() || s.stamp == nil && time.Since(s.at) > c.opts.TTL {
		return Known{}
	}
	schema, ok := c.schemas.Get(s.fingerprint)
	if !ok {
		return Known{}
	}
	return Known{schema, s.stamp}
}

// Doubt says that what was remembered of a database may be outdated.
func (c *Cache) Doubt(database string, of *Exposed) {
	if e, ok := c.databases.Get(key{database, of.key}); ok {
		e.doubted.Store(time.Now().UnixNano())
	}
}

// Pace waits until a database's fingerprint may be read again. Call it before
// [Cache.Refresh], while no connection is held: a flood of misspelt requests
// then costs a database without stamps a few reads a second, and nobody else a
// connection. With stamps, to look again costs next to nothing.
func (c *Cache) Pace(ctx context.Context, database string, of *Exposed) error {
	e, ok := c.databases.Peek(key{database, of.key})
	if !ok {
		return nil
	}
	s := e.seen.Load()
	if s == nil || s.stamp != nil || c.lookup(e).Schema != nil {
		return nil
	}
	if err := sleep.For(ctx, c.opts.Pause-time.Since(s.at)); err != nil {
		return fmt.Errorf("wait for the schema: %w", err)
	}
	return nil
}

// Refresh makes sure over conn that a database's schema is known: it reads the
// stamp, the fingerprint if the stamp is not the one known, and the schema if no
// database with that fingerprint was seen yet. Of concurrent calls for one
// database one reads and the others wait for it. The errors are those of the
// connection and of ctx.
func (c *Cache) Refresh(ctx context.Context, database string, of *Exposed, conn *pgconn.PgConn) (Known, error) {
	e := c.entry(key{database, of.key})
	select {
	case e.reading <- struct{}{}:
		defer func() { <-e.reading }()
	case <-ctx.Done():
		return Known{}, fmt.Errorf("wait for the schema: %w", ctx.Err())
	}
	if known := c.lookup(e); known.Schema != nil {
		return known, nil
	}
	now, schema, err := c.look(ctx, e.seen.Load(), of, conn)
	if err != nil {
		return Known{}, err
	}
	e.seen.Store(now)
	return Known{schema, now.stamp}, nil
}

// look reads what there is now; before is what was seen last, or nil.
func (c *Cache) look(ctx context.Context, before *seen, of *Exposed, conn *pgconn.PgConn) (*seen, *Schema, error) {
	now := &seen{at: time.Now()}
	var err error
	if before != nil && before.stamp != nil {
		if now.stamp, err = stamp(ctx, conn); err != nil {
			return nil, nil, err
		}
		if schema, ok := c.schemas.Get(before.fingerprint); ok && bytes.Equal(now.stamp, before.stamp) {
			now.fingerprint = before.fingerprint
			return now, schema, nil
		}
	}
	if before == nil || before.stamp != nil {
		now.stamp, now.fingerprint, err = stampAndDigest(ctx, conn, of.literal)
	} else {
		now.fingerprint, err = digest(ctx, conn, of.literal)
	}
	if err != nil {
		return nil, nil, err
	}
	schema, ok := c.schemas.Get(now.fingerprint)
	if !ok {
		if schema, err = load(ctx, conn, of.literal); err != nil {
			return nil, nil, err
		}
		// A change between the reads makes this another schema than the digest's,
		// and a newer one: what was loaded is what counts. The stamp is the older one still.
		now.fingerprint = schema.Fingerprint
		c.schemas.Add(now.fingerprint, schema)
	}
	return now, schema, nil
}

func (c *Cache) entry(of key) *entry {
	e := &entry{reading: make(chan struct{}, 1)}
	if known, ok, _ := c.databases.PeekOrAdd(of, e); ok {
		return known
	}
	return e
}

// arrayLiteral renders a text[] as Postgres reads it.
func arrayLiteral(values []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = `"` + escape.Replace(v) + `"`
	}
	return []byte("{" + strings.Join(quoted, ",") + "}")
}
