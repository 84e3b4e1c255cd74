package shard

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/shardmap"
)

// Console is one connection to a PgBouncer's admin console. It is for one goroutine at a time.
type Console struct{ conn *pgconn.PgConn }

// Console connects to the console of the shard's PgBouncer. The caller closes it.
func (f *Fleet) Console(ctx context.Context, id shardmap.ShardID) (*Console, error) {
	return nil, errTODO
}

// Close ends the connection. Closing twice is no error.
func (c *Console) Close() {}

// Pause keeps new transactions of the database waiting and returns when none
// is under way any more. It can't be taken back on the same connection: when
// ctx ends first the connection is closed, and the caller must Resume from
// another one, for the database stays paused (or about to be) all the same.
// Errors: [ErrNoDatabase]: no client ever came for it; give it an entry with
// [Routes.Set] first.
func (c *Console) Pause(ctx context.Context, database string) error { return errTODO }

// Resume ends a Pause. A database that is not paused or not known is no error.
func (c *Console) Resume(ctx context.Context, database string) error { return errTODO }

// Reload has the configuration and the routes file read again.
func (c *Console) Reload(ctx context.Context) error { return errTODO }

// Kill closes all client and server connections of the database at once and
// keeps clients out until Resume. A database that is not known is no error.
func (c *Console) Kill(ctx context.Context, database string) error { return errTODO }

// Entry is one line of SHOW DATABASES.
type Entry struct {
	Name        string
	Host        string
	Port        uint16
	Connections int // server connections open
	Paused      bool
	Disabled    bool
}

// Databases lists what PgBouncer has entries for, by name.
func (c *Console) Databases(ctx context.Context) (map[string]Entry, error) { return nil, errTODO }

// Clients counts the clients attached to the database.
func (c *Console) Clients(ctx context.Context, database string) (int, error) { return 0, errTODO }
