package diff

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	// Ranges have so many rows that reading one takes about rangeFor.
	leastRows, firstRows, mostRows = 16, 1000, 50_000
	rangeFor                       = 150 * time.Millisecond
	// looks is how often a key that differs is looked at before the table is held still.
	looks = 5
	// atOnce bounds the keys looked up under one lock.
	atOnce = 100
)

// span is a range of keys: above after, up to and with until; nil: no bound.
type span struct{ after, until []string }

// row is what is read of a row: two hashes of its text.
type row struct{ a, b int64 }

// keyed reads one ordered table.
type keyed struct {
	c *Comparison
	t table
	// names and keyText are the key's columns in statements, as they are and as text.
	names, keyText string
}

func (c *Comparison) keyed(t table) *keyed {
	quoted, text := make([]string, len(t.key)), make([]string, len(t.key))
	for i, k := range t.key {
		quoted[i] = "t." + pg.Ident(k)
		text[i] = "pg_catalog.concat(" + quoted[i] + ")" // by the type's output function: a cast might be somebody's own
	}
	return &keyed{c: c, t: t, names: strings.Join(quoted, ", "), keyText: strings.Join(text, ", ")}
}

// literals are a key as SQL.
func (k *keyed) literals(key []string) (string, error) {
	parts := make([]string, len(key))
	for i, v := range key {
		lit, err := pg.Literal(v)
		if err != nil {
			return "", err
		}
		parts[i] = lit + "::" + k.t.keyTypes[i]
	}
	return "(" + strings.Join(parts, ", ") + ")", nil
}

func (k *keyed) where(s span) (string, error) {
	cond := " WHERE true"
	for _, bound := range []struct {
		op  string
		key []string
	}{{">", s.after}, {"<=", s.until}} {
		if bound.key == nil {
			continue
		}
		lit, err := k.literals(bound.key)
		if err != nil {
			return "", err
		}
		cond += " AND (" + k.names + ") " + bound.op + " " + lit
	}
	return cond, nil
}

// end finds the key n rows after; nil: there are not so many.
func (k *keyed) end(ctx context.Context, after []string, n int) ([]string, error) {
	cond, err := k.where(span{after: after})
	if err != nil {
		return nil, err
	}
	found, err := k.texts(ctx, k.c.serving, fmt.Sprintf("SELECT %s FROM ONLY %s AS t%s ORDER BY %s OFFSET %d LIMIT 1", k.keyText, k.t.ident(), cond, k.names, n-1))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// texts runs a query whose columns are all text.
func (k *keyed) texts(ctx context.Context, conn *pgx.Conn, sql string) ([][]string, error) {
	rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, k.failed(err)
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]string, error) {
		var texts []string
		for _, v := range r.RawValues() {
			texts = append(texts, string(v))
		}
		return texts, nil
	})
	if err != nil {
		return nil, k.failed(err)
	}
	return found, nil
}

func (k *keyed) failed(err error) error { return fmt.Errorf("compare %s: %w", k.t.ident(), err) }

// sum is a range's contents.
type sum struct {
	rows, bytes int64
	hash        string
}

// rowText is a row as text, by record_out and never by a cast.
const rowText = "pg_catalog.textin(pg_catalog.record_out(t.*))"

func (k *keyed) sum(ctx context.Context, conn *pgx.Conn, s span) (found sum, err error) {
	cond, err := k.where(s)
	if err != nil {
		return found, err
	}
	// OFFSET 0 keeps the text from being made twice.
	err = conn.QueryRow(ctx, "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.octet_length(x)), 0), pg_catalog.concat(pg_catalog.sum(pg_catalog.hashtextextended(x, 0)), '/', pg_catalog.sum(pg_catalog.hashtextextended(x, 1))) FROM (SELECT "+
		rowText+" AS x FROM ONLY "+k.t.ident()+" AS t"+cond+" OFFSET 0) q", pgx.QueryExecModeSimpleProtocol).Scan(&found.rows, &found.bytes, &found.hash)
	if err != nil {
		return found, k.failed(err)
	}
	return found, nil
}

// sep parts the values of a key that is a key of a map; text in Postgres has no such byte.
const sep = "\x00"

// list reads the rows of a condition, by key.
func (k *keyed) list(ctx context.Context, conn *pgx.Conn, cond string) (map[string]row, error) {
	rows, err := conn.Query(ctx, "SELECT pg_catalog.hashtextextended(x, 0), pg_catalog.hashtextextended(x, 1), key FROM (SELECT ARRAY["+k.keyText+"]::pg_catalog.text[] AS key, "+rowText+" AS x FROM ONLY "+
		k.t.ident()+" AS t"+cond+" OFFSET 0) q", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, k.failed(err)
	}
	found := map[string]row{}
	var r row
	var key []string
	if _, err := pgx.ForEachRow(rows, []any{&r.a, &r.b, &key}, func() error {
		found[strings.Join(key, sep)] = r
		return nil
	}); err != nil {
		return nil, k.failed(err)
	}
	return found, nil
}

// in is the condition that a row's key is one of these.
func (k *keyed) in(keys []string) (string, error) {
	lits := make([]string, len(keys))
	for i, key := range keys {
		var err error
		if lits[i], err = k.literals(strings.Split(key, sep)); err != nil {
			return "", err
		}
	}
	return " WHERE (" + k.names + ") IN (VALUES " + strings.Join(lits, ", ") + ")", nil
}

// unequal are the keys whose rows differ, in order.
func unequal(serving, follower map[string]row) []string {
	var keys []string
	for key, r := range serving {
		if o, there := follower[key]; !there || o != r {
			keys = append(keys, key)
		}
	}
	for key := range follower {
		if _, there := serving[key]; !there {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// both reads at the serving side, and after a barrier at the other.
func both[T any](ctx context.Context, c *Comparison, serving *pgx.Conn, within time.Duration, read func(context.Context, *pgx.Conn) (T, error)) (s, f T, err error) {
	if s, err = read(ctx, serving); err != nil {
		return s, f, err
	}
	if err = c.barrier(ctx, within); err != nil {
		return s, f, err
	}
	f, err = read(ctx, c.follower)
	return s, f, err
}

// next compares the next range of the table, and says how long reading it took.
func (k *keyed) next(ctx context.Context, p *Progress, n int) (done bool, took time.Duration, err error) {
	start, read := time.Now(), int64(0)
	s := span{after: p.After}
	if s.until, err = k.end(ctx, p.After, n); err != nil {
		return false, 0, err
	}
	if k.c.sampled(k.t, p.Range) {
		serving, follower, err := both(ctx, k.c, k.c.serving, k.c.opt.Patience, func(ctx context.Context, conn *pgx.Conn) (sum, error) { return k.sum(ctx, conn, s) })
		if err != nil {
			return false, 0, err
		}
		took = time.Since(start)
		if serving != follower {
			found := p.Found // as long as the range is not done, nothing of it is kept
			found.Rows = slices.Clone(found.Rows)
			if err := k.lookCloser(ctx, s, &found); err != nil {
				return false, 0, err
			}
			p.Found = found
		}
		p.Rows, p.TableRows, p.Bytes, read = p.Rows+serving.rows, p.TableRows+serving.rows, p.Bytes+serving.bytes, serving.bytes
	}
	p.After, p.Range = s.until, p.Range+1
	if err := k.c.pace.rest(ctx, took, read); err != nil && s.until != nil {
		return false, 0, err
	}
	if p.Found.found() >= most {
		p.Found.Stopped = true
		return true, took, nil
	}
	return s.until == nil, took, nil
}

// sampled chooses ranges; the same each time.
func (c *Comparison) sampled(t table, n int) bool {
	if c.opt.Sample <= 0 || c.opt.Sample >= 100 || n == 0 {
		return true
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d", c.opt.Seed, t.ident(), n)
	return float64(h.Sum64()%10_000)/100 < c.opt.Sample
}

// readAnew is from how many keys on a range is read anew, and not key by key.
const readAnew = 2000

// lookCloser finds out which rows of a range differ, and which only seemed to:
// a key whose rows were equal once was right then.
func (k *keyed) lookCloser(ctx context.Context, s span, found *Table) error {
	cond, err := k.where(s)
	if err != nil {
		return err
	}
	var differ []string
	for look, pause := 0, 10*time.Millisecond; look < looks; look, pause = look+1, 2*pause {
		serving, follower, err := both(ctx, k.c, k.c.serving, k.c.opt.Patience, func(ctx context.Context, conn *pgx.Conn) (map[string]row, error) { return k.list(ctx, conn, cond) })
		if err != nil {
			return err
		}
		now := unequal(serving, follower)
		if look > 0 {
			now = slices.DeleteFunc(now, func(key string) bool { _, before := slices.BinarySearch(differ, key); return !before })
		}
		if differ = now; len(differ) == 0 {
			return nil
		}
		if len(differ) < readAnew {
			if cond, err = k.in(differ); err != nil {
				return err
			}
		}
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
	return k.prove(ctx, differ, found)
}

// prove looks at keys while nobody writes to the table: what differs then, differs.
func (k *keyed) prove(ctx context.Context, keys []string, found *Table) error {
	for some := range slices.Chunk(keys, atOnce) {
		if found.found() >= most {
			break // the table is not read on
		}
		cond, err := k.in(some)
		if err != nil {
			return err
		}
		var proven []RowDifference
		err = k.c.still(ctx, k.t, func(ctx context.Context) error {
			proven = nil
			serving, follower, err := both(ctx, k.c, k.c.lock, quickBarrier, func(ctx context.Context, conn *pgx.Conn) (map[string]row, error) { return k.list(ctx, conn, cond) })
			if err != nil {
				return err
			}
			for _, key := range unequal(serving, follower) {
				d := RowDifference{Kind: Changed, Key: k.t.label(strings.Split(key, sep))}
				if _, there := follower[key]; !there {
					d.Kind = Missing
				} else if _, there := serving[key]; !there {
					d.Kind = Extra
				} else if !k.c.opt.KeysOnly && len(found.Rows)+len(proven) < listed {
					if d.Columns, err = k.columns(ctx, key); err != nil {
						return err
					}
				}
				proven = append(proven, d)
			}
			return nil
		})
		if errors.Is(err, errNotStill) {
			found.Unproven += int64(len(some))
			for _, key := range some[:min(len(some), max(0, listed-len(found.Rows)))] {
				found.Rows = append(found.Rows, RowDifference{Kind: "unproven", Key: k.t.label(strings.Split(key, sep))})
			}
			continue
		}
		if err != nil {
			return err
		}
		for _, d := range proven {
			found.add(d)
		}
	}
	return nil
}

// columns names those in which a row differs. The table is held still.
func (k *keyed) columns(ctx context.Context, key string) ([]string, error) {
	cond, err := k.in([]string{key})
	if err != nil {
		return nil, err
	}
	hashes := make([]string, len(k.t.columns))
	for i, c := range k.t.columns {
		hashes[i] = "pg_catalog.concat(pg_catalog.hashtextextended(pg_catalog.textin(pg_catalog.record_out(ROW(t." + pg.Ident(c) + "))), 0))"
	}
	sql := "SELECT " + strings.Join(hashes, ", ") + " FROM ONLY " + k.t.ident() + " AS t" + cond
	serving, err := k.texts(ctx, k.c.lock, sql)
	if err != nil {
		return nil, err
	}
	follower, err := k.texts(ctx, k.c.follower, sql)
	if err != nil || len(serving) != 1 || len(follower) != 1 {
		return nil, err
	}
	var differ []string
	for i, c := range k.t.columns {
		if serving[0][i] != follower[0][i] {
			differ = append(differ, c)
		}
	}
	return differ, nil
}
