package pg

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolConfig reads a connection string. The TLS files that it names are read
// again for each connection, so that renewed ones are used; while those there
// can't be, the ones before them are.
func PoolConfig(dsn string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err // pgx leaves the password out of it
	}
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if fresh, err := pgxpool.ParseConfig(dsn); err == nil {
			c.TLSConfig, c.Fallbacks = fresh.ConnConfig.TLSConfig, fresh.ConnConfig.Fallbacks
		}
		return nil
	}
	return cfg, nil
}

// Exposed says how a connection by dsn could be listened to, or be led to
// another server, on a network: "" when it can't, for it stays on this machine
// or verifies the server by its certificate (or dsn is empty).
func Exposed(dsn string) (string, error) {
	if dsn == "" {
		return "", nil // none is made
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", fmt.Errorf("connection string: %w", err) // pgx leaves the password out of it
	}
	ways := append([]*pgconn.FallbackConfig{{Host: cfg.Host, TLSConfig: cfg.TLSConfig}}, cfg.Fallbacks...)
	for _, w := range ways {
		switch {
		case Local(w.Host):
		case w.TLSConfig == nil:
			return "passwords and rows may go to " + w.Host + " in plain text: add sslmode=verify-full", nil
		case w.TLSConfig.InsecureSkipVerify: // verify-ca, too: any server of that root may pose as this one
			return "any server may pose as " + w.Host + ": add sslmode=verify-full", nil
		}
	}
	return "", nil
}

// Local tells whether what is sent to host never leaves this machine.
func Local(host string) bool {
	if socket(host) || strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
