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
	Databases int           // databases remembered; default 20,000 (about 400 bytes each)
	Bytes     int64         // of all schemas kept, in memory and roughly; default 128 MiB
	Document  int64         // that describe one schema as Postgres sends it, at most; default 64 MiB
	TTL       time.Duration // of a database without stamps, a fingerprint older than this is read again; default 30 s
	Pause     time.Duration // least time between two reads of such a database's fingerprint; default 250 ms
}

// DefaultBytes is room for 2,000 schemas of 25 tables.
const DefaultBytes = 128 << 20

// marks bounds the marks remembered: each template of each shard has one, and
// so has each database whose schema changed since it was made.
const marks = 4096

func (o Options) withDefaults() Options {
	def(&o.Databases, 20_000)
	def(&o.Bytes, DefaultBytes)
	def(&o.Document, 64<<20)
	def(&o.TTL, 30*time.Second)
	def(&o.Pause, 250*time.Millisecond)
	return o
}

func def[T int | int64 | time.Duration](p *T, v T) {
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
//
// Databases with the same mark share what was read of one of them, so that the
// first request of a new tenant reads no schema. A refusal under a schema that was
// found like that has the database's own read. Should that be another one, the
// mark says nothing any more.
type Cache struct {
	opts      Options
	databases *lru.Cache[key, *entry]
	schemas   *kept
	marks     *lru.Cache[markKey, *marked]

	born    time.Time          // all times are since then
	reading turns[markKey]     // of schemas with that mark
	loading turns[Fingerprint] // of schemas with that fingerprint

	digests, documents, shared atomic.Uint64
}

// markKey is what was read of databases with one mark, if the same is exposed.
type markKey struct{ mark, exposed string }

type marked struct {
	fingerprint Fingerprint
	stamp       []byte
	// disputed says that another database with the mark turned out to have another
	// schema: whatever brought that about, each has its own read from then on.
	disputed atomic.Bool
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
	doubted atomic.Int64         // when the latest doubt was
}

type seen struct {
	fingerprint Fingerprint
	stamp       []byte
	at          time.Duration // when the read began: what was committed before is in it
	by          *marked       // nil unless found by the mark
}

// NewCache makes an empty cache.
func NewCache(opts Options) *Cache {
	opts = opts.withDefaults()
	databases, err := lru.New[key, *entry](opts.Databases)
	if err != nil { // sizes are positive
		panic("schema: " + err.Error())
	}
	known, err := lru.New[markKey, *marked](marks)
	if err != nil {
		panic("schema: " + err.Error())
	}
	return &Cache{opts: opts, databases: databases, schemas: newKept(opts.Bytes), marks: known, born: time.Now()}
}

// Stats are a cache's figures. Counts are since it was made.
type Stats struct {
	Databases int    // remembered
	Schemas   int    // kept
	Bytes     int64  // of them all, roughly
	Largest   int64  // bytes of the largest
	Digests   uint64 // fingerprints read
	Documents uint64 // schemas read
	Shared    uint64 // databases whose schema was known by their mark
	Evicted   uint64 // schemas thrown out for lack of room
}

// Stats returns the figures of now.
func (c *Cache) Stats() Stats {
	s := Stats{Databases: c.databases.Len(), Digests: c.digests.Load(), Documents: c.documents.Load(), Shared: c.shared.Load()}
	c.schemas.stats(&s)
	return s
}

func (c *Cache) now() time.Duration { return time.Since(c.born) }

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
	if s == nil || int64(s.at) < e.doubted.Load() || s.stamp == nil && c.now()-s.at > c.opts.TTL || s.by != nil && s.by.disputed.Load() {
		return Known{}
	}
	schema := c.schemas.get(s.fingerprint)
	if schema == nil {
		return Known{}
	}
	return Known{schema, s.stamp}
}

// Doubt says that what was remembered of a database may be outdated.
func (c *Cache) Doubt(database string, of *Exposed) {
	if e, ok := c.databases.Get(key{database, of.key}); ok {
		e.doubted.Store(int64(c.now()))
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
	if err := sleep.For(ctx, c.opts.Pause-(c.now()-s.at)); err != nil {
		return fmt.Errorf("wait for the schema: %w", err)
	}
	return nil
}

// Refresh makes sure over conn that a database's schema is known: it reads the
// stamp, the fingerprint if neither stamp nor mark is known, and the schema if no
// database with that fingerprint was seen yet. Of concurrent calls for one
// database, one mark or one fingerprint one reads and the others wait for it. The
// errors are those of the connection and of ctx.
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
	before := e.seen.Load()
	doubted := before != nil && int64(before.at) < e.doubted.Load()
	now, schema, err := c.look(ctx, before, doubted, of, conn)
	if err != nil {
		return Known{}, err
	}
	e.seen.Store(now)
	return Known{schema, now.stamp}, nil
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
