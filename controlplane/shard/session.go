package shard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// Session opens an admin connection whose settings are its own, whatever the
// database's and the roles' are, for work inside a tenant's database that takes
// its time. application tells it from the tenant's sessions.
func (f *Fleet) Session(ctx context.Context, on shardmap.ShardID, database, application string) (*pgx.Conn, error) {
	cfg, err := f.AdminConfig(ctx, on, database)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["application_name"] = application
	for k, v := range sessionSettings {
		cfg.RuntimeParams[k] = v
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", on, err)
	}
	return conn, nil
}

// TableSession is Session for reading tables, but no view that poses as one.
func (f *Fleet) TableSession(ctx context.Context, on shardmap.ShardID, database, application string) (*pgx.Conn, error) {
	conn, err := f.Session(ctx, on, database, application)
	if err != nil {
		return nil, err
	}
	if err := TablesOnly(ctx, conn); err != nil {
		closeConn(ctx, conn)
		return nil, fmt.Errorf("shard %s: %w", on, err)
	}
	return conn, nil
}

// TablesOnly has conn read no view or foreign table from now on, where the server knows how.
func TablesOnly(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SELECT pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'")
	return err
}

var sessionSettings = map[string]string{
	"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0",
	"lock_timeout": "0", "default_transaction_read_only": "off", "default_transaction_isolation": "read committed", "row_security": "off",
	"jit": "off", // catalog queries look dear to the planner and are not
}

// ToolEnv is [Fleet.AdminEnv] for pg_dump and pg_restore inside a tenant's
// database, with settings ("name=value") of their session.
func (f *Fleet) ToolEnv(ctx context.Context, on shardmap.ShardID, database, application string, settings ...string) ([]string, error) {
	env, err := f.AdminEnv(ctx, on, database)
	if err != nil {
		return nil, err
	}
	options := "-c default_transaction_read_only=off -c statement_timeout=0 -c jit=off"
	for _, kv := range settings {
		options += " -c " + kv
	}
	return append(env, "PGOPTIONS="+options, "PGAPPNAME="+application), nil
}
