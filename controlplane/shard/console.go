package shard

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Console is one connection to a PgBouncer's admin console. It is for one goroutine at a time.
type Console struct {
	conn *pgconn.PgConn
	name string
}

// Console connects to the console of the shard's PgBouncer. The caller closes it.
func (f *Fleet) Console(ctx context.Context, id shardmap.ShardID) (*Console, error) {
	s, err := f.shards.GetShard(ctx, id)
	if err != nil {
		return nil, err
	}
	login, _, err := f.secrets.Get(ctx, secret.ShardBouncer(string(id)))
	if err != nil {
		return nil, fmt.Errorf("shard %s: console login: %w", id, err)
	}
	return f.openConsole(ctx, s, login)
}

func (f *Fleet) openConsole(ctx context.Context, s catalog.Shard, login secret.Login) (*Console, error) {
	cfg, err := f.channel.Config(s.BouncerHost, s.BouncerPort, "pgbouncer", login)
	if err != nil {
		return nil, fmt.Errorf("shard %s: console: %w", s.ID, err)
	}
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("shard %s: console: %w", s.ID, err)
	}
	return &Console{conn: conn, name: string(s.ID)}, nil
}

// Close ends the connection. Closing twice is no error.
func (c *Console) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	_ = c.conn.Close(ctx) // PgBouncer notices either way
}

// Pause keeps new transactions of the database waiting and returns when none
// is under way any more. It can't be taken back on the same connection: when
// ctx ends first the connection is closed, and the caller must Resume from
// another one, for the database stays paused (or about to be) all the same.
// A database that is paused already is no error.
// Errors: [ErrNoDatabase]: there is neither an entry nor a wildcard for it.
func (c *Console) Pause(ctx context.Context, database string) error {
	return c.onDatabase(ctx, "PAUSE", database, "already suspended/paused")
}

// Resume ends a Pause or Kill. A database that is not paused or not known is no error.
func (c *Console) Resume(ctx context.Context, database string) error {
	err := c.onDatabase(ctx, "RESUME", database, "is not paused")
	if errors.Is(err, ErrNoDatabase) {
		return nil
	}
	return err
}

// Kill closes all client and server connections of the database at once and
// keeps clients out until Resume. A database that is not known is no error.
func (c *Console) Kill(ctx context.Context, database string) error {
	err := c.onDatabase(ctx, "KILL", database, "")
	if errors.Is(err, ErrNoDatabase) {
		return nil
	}
	return err
}

// Reload has the configuration and the routes file read again.
func (c *Console) Reload(ctx context.Context) error {
	_, err := c.run(ctx, "RELOAD")
	return err
}

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
func (c *Console) Databases(ctx context.Context) (map[string]Entry, error) {
	rows, err := c.run(ctx, "SHOW DATABASES")
	if err != nil {
		return nil, err
	}
	entries := make(map[string]Entry, len(rows))
	for _, row := range rows {
		port, err := strconv.ParseUint(row["port"], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("pgbouncer of %s: SHOW DATABASES: port %q", c.name, row["port"])
		}
		connections, err := strconv.Atoi(row["current_connections"])
		if err != nil {
			return nil, fmt.Errorf("pgbouncer of %s: SHOW DATABASES: current_connections %q", c.name, row["current_connections"])
		}
		entries[row["name"]] = Entry{Name: row["name"], Host: row["host"], Port: uint16(port), Connections: connections,
			Paused: row["paused"] == "1", Disabled: row["disabled"] == "1"}
	}
	return entries, nil
}

// Clients counts the clients attached to the database.
func (c *Console) Clients(ctx context.Context, database string) (int, error) {
	rows, err := c.run(ctx, "SHOW CLIENTS")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, row := range rows {
		if row["database"] == database {
			n++
		}
	}
	return n, nil
}

// Version is what PgBouncer says of itself, e.g. "PgBouncer 1.18.0".
func (c *Console) Version(ctx context.Context) (string, error) {
	rows, err := c.run(ctx, "SHOW VERSION")
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", fmt.Errorf("pgbouncer of %s: SHOW VERSION: no answer", c.name)
	}
	return rows[0]["version"], nil
}

// onDatabase runs a command about one database; an answer that contains
// already says that there was nothing to do. The console has one SQLSTATE for
// every refusal, so its words are all there is to tell them apart.
func (c *Console) onDatabase(ctx context.Context, command, database, already string) error {
	if !shardmap.ValidDatabase(database) {
		return fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	_, err := c.run(ctx, command+" "+database)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch {
		case strings.Contains(refused.Message, "no such database"):
			return fmt.Errorf("%s %s: %w", command, database, ErrNoDatabase)
		case already != "" && strings.Contains(refused.Message, already):
			return nil
		}
	}
	return err
}

// commandFor bounds a command whose caller set no deadline.
const commandFor = 30 * time.Second

// run executes one command in the simple protocol and returns its rows by column name.
func (c *Console) run(ctx context.Context, command string) ([]map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandFor)
	defer cancel()
	results, err := c.conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("pgbouncer of %s: %s: %w", c.name, command, err)
	}
	var rows []map[string]string
	for _, r := range results {
		for _, values := range r.Rows {
			row := make(map[string]string, len(values))
			for i, v := range values {
				row[r.FieldDescriptions[i].Name] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// Config reads PgBouncer's settings, by name.
func (c *Console) Config(ctx context.Context) (map[string]string, error) {
	rows, err := c.run(ctx, "SHOW CONFIG")
	if err != nil {
		return nil, err
	}
	set := make(map[string]string, len(rows))
	for _, row := range rows {
		set[row["key"]] = row["value"]
	}
	return set, nil
}

// Forced lists the entries that log everybody in as one user of their own.
func (c *Console) Forced(ctx context.Context) (names []string, err error) {
	rows, err := c.run(ctx, "SHOW DATABASES")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row["force_user"] != "" && row["name"] != "pgbouncer" {
			names = append(names, row["name"])
		}
	}
	return names, nil
}
