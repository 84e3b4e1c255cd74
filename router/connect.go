package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	dialFor = 2 * time.Second // to reach a PgBouncer's socket, without the login
	shutFor = time.Second     // to say good-bye to one
)

// connect opens a connection for a seat that was granted, and gives the seat
// back if it can't. Nothing is executed by that, so every refusal is an
// errConnect: look again.
func (r *Router) connect(ctx context.Context, p *pool, place shardmap.Placement) (*conn, error) {
	c, err := r.dialUp(ctx, p, place)
	r.mu.Lock()
	if err == nil && c.outdated() {
		// The router went over to newer logins meanwhile, and said that it keeps
		// nothing by those of before: they may be closed at any moment.
		r.mu.Unlock()
		shut([]*conn{c})
		c, err = r.dialUp(ctx, p, place)
		r.mu.Lock()
	}
	if err == nil {
		r.conns[c] = struct{}{}
		if place.Epoch == p.of.epoch {
			r.startNew(c)
		}
	}
	if place.Epoch == p.of.epoch {
		p.dials--
	}
	if err == nil {
		r.mu.Unlock()
		return c, nil
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && p.of.lease != nil {
		p.of.lease.doubted = true // PgBouncer's words for a wrong login are many: doubt it at any refusal
	}
	gone := r.unseat(p, place.Shard)
	r.mu.Unlock()
	shut(gone)
	r.stats.dialErrors.Add(1)
	if refusal == nil && ctx.Err() == nil && errors.Is(err, errConnect) {
		_, _ = r.shards.RefreshShard(ctx, place.Shard) // perhaps it is elsewhere by now
	}
	return nil, err
}

// dialUp looks up all that a connection takes and opens it.
func (r *Router) dialUp(ctx context.Context, p *pool, place shardmap.Placement) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ConnectFor)
	defer cancel()
	document, err := r.document(ctx, p.of, place.Database)
	if err != nil {
		return nil, err
	}
	c, err := r.dialAs(ctx, p.login, document, place)
	if err != nil {
		return nil, err
	}
	c.pool = p
	return c, nil
}

// dialAs opens a connection by the login that follows from the database's secret.
func (r *Router) dialAs(ctx context.Context, by tenantdb.Login, document secret.Login, place shardmap.Placement) (*conn, error) {
	login, err := by.From(document, place.Database)
	if err != nil {
		return nil, err
	}
	shard, err := r.shards.Shard(ctx, place.Shard)
	if err != nil {
		return nil, err
	}
	config, err := r.channel.Config(shard.Host, shard.Port, place.Database, login)
	if err != nil {
		return nil, err
	}
	var w *wire
	config.DialFunc = pgconn.DialFunc(r.dial)
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, nc net.Conn) (net.Conn, error) {
		w = newWire(nc) // inside TLS, for it reads what messages begin with
		return w, nil
	}
	config.ConnectTimeout = 0 // ctx bounds it
	config.MaxProtocolMessageBodyLen = r.cfg.MaxMessage
	r.stats.dials.Add(1)
	pgc, err := pgconn.ConnectConfig(ctx, &config.Config)
	if err != nil {
		return nil, fmt.Errorf("tenant %s on shard %s: %w: %w", place.Tenant, place.Shard, errConnect, pg.ConnectCause(err))
	}
	return &conn{Conn: Conn{PG: pgc, Placement: place}, wire: w, generation: document.Generation}, nil
}

// shut closes connections that are out of the books. Each gets a good-bye, so
// that PgBouncer frees its side at once.
func shut(gone []*conn) {
	for _, c := range gone {
		_ = c.wire.SetDeadline(time.Now().Add(shutFor))
		_ = c.PG.Close(context.Background())
	}
}
