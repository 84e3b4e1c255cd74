package schema

import (
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
	Schemas   []string      // exposed schemas; default public
	Databases int           // databases remembered; default 20,000 (about 400 bytes each)
	Distinct  int           // distinct schemas kept; default 512
	TTL       time.Duration // a fingerprint older than this is read again; default 30 s
	Pause     time.Duration // least time between two reads of one database's fingerprint; default 250 ms
}

func (o Options) withDefaults() Options {
	if len(o.Schemas) == 0 {
		o.Schemas = []string{"public"}
	}
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

// Cache maps databases to schemas by fingerprint. It is never trusted with a
// refusal: whoever would answer "no such column" or was refused by Postgres
// calls [Cache.Doubt], and gets a schema whose fingerprint was read after that.
type Cache struct {
	opts      Options
	literal   []byte // opts.Schemas as an array literal
	databases *lru.Cache[string, *entry]
	schemas   *lru.Cache[Fingerprint, *Schema]
}

// entry is what is remembered of one database.
type entry struct {
	reading chan struct{}        // holds one: whoever reads the fingerprint
	seen    atomic.Pointer[seen] // nil until first read
	doubted atomic.Int64         // UnixNano of the latest doubt
}

type seen struct {
	fingerprint Fingerprint
	at          time.Time // when the read began: what was committed before is in it
}

// NewCache makes an empty cache.
func NewCache(opts Options) *Cache {
	opts = opts.withDefaults()
	databases, err := lru.New[string, *entry](opts.Databases)
	if err != nil { // sizes are positive
		panic("schema: " + err.Error())
	}
	schemas, err := lru.New[Fingerprint, *Schema](opts.Distinct)
	if err != nil {
		panic("schema: " + err.Error())
	}
	return &Cache{opts: opts, literal: arrayLiteral(opts.Schemas), databases: databases, schemas: schemas}
}

// Lookup gives the schema of a database without asking it, or nil when the
// fingerprint is unknown, too old or in doubt: then call [Cache.Refresh].
func (c *Cache) Lookup(database string) *Schema {
	e, ok := c.databases.Get(database)
	if !ok {
		return nil
	}
	return c.lookup(e)
}

func (c *Cache) lookup(e *entry) *Schema {
	s := e.seen.Load()
	if s == nil || s.at.UnixNano() < e.doubted.Load() || time.Since(s.at) > c.opts.TTL {
		return nil
	}
	schema, ok := c.schemas.Get(s.fingerprint)
	if !ok {
		return nil
	}
	return schema
}

// Doubt says that what was remembered of a database may be outdated.
func (c *Cache) Doubt(database string) {
	if e, ok := c.databases.Get(database); ok {
		e.doubted.Store(time.Now().UnixNano())
	}
}

// Pace waits until a database's fingerprint may be read again. Call it before
// [Cache.Refresh], while no connection is held: a flood of misspelt requests
// then costs the database a few reads a second, and nobody else a connection.
func (c *Cache) Pace(ctx context.Context, database string) error {
	e, ok := c.databases.Peek(database)
	if !ok {
		return nil
	}
	s := e.seen.Load()
	if s == nil || c.lookup(e) != nil {
		return nil
	}
	if err := sleep.For(ctx, c.opts.Pause-time.Since(s.at)); err != nil {
		return fmt.Errorf("wait for the schema: %w", err)
	}
	return nil
}

// Refresh reads a database's fingerprint over conn, and its schema when no
// database with that fingerprint was seen yet. Of concurrent calls for one
// database one reads and the others wait for it. The errors are those of the
// connection and of ctx.
func (c *Cache) Refresh(ctx context.Context, database string, conn *pgconn.PgConn) error {
	e := c.entry(database)
	select {
	case e.reading <- struct{}{}:
		defer func() { <-e.reading }()
	case <-ctx.Done():
		return fmt.Errorf("wait for the schema: %w", ctx.Err())
	}
	if c.lookup(e) != nil {
		return nil
	}
	began := time.Now()
	fingerprint, err := digest(ctx, conn, c.literal)
	if err != nil {
		return err
	}
	if _, ok := c.schemas.Get(fingerprint); !ok {
		loaded, err := load(ctx, conn, c.literal)
		if err != nil {
			return err
		}
		// A change between the two reads makes this another schema than the
		// digest's, and a newer one: what was loaded is what counts.
		fingerprint = loaded.Fingerprint
		c.schemas.Add(fingerprint, loaded)
	}
	e.seen.Store(&seen{fingerprint, began})
	return nil
}

func (c *Cache) entry(database string) *entry {
	e := &entry{reading: make(chan struct{}, 1)}
	if known, ok, _ := c.databases.PeekOrAdd(database, e); ok {
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
