package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"

	"github.com/caarlos0/env/v11"
	"github.com/jackc/pgx/v5"
	"gopkg.in/yaml.v3"
)

// LoadConfig reads a YAML file (an empty path: none), lets environment
// variables override it, fills in defaults and validates. An unknown key is an
// error: a typo must not silently leave a bound off.
func LoadConfig(path string) (Config, error) {
	var c Config
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("control-plane configuration: %w", err)
		}
		dec := yaml.NewDecoder(bytes.NewReader(b))
		dec.KnownFields(true)
		if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
			return Config{}, fmt.Errorf("control-plane configuration: %s: %w", path, err)
		}
	}
	if err := env.Parse(&c); err != nil {
		return Config{}, fmt.Errorf("control-plane configuration: %w", err)
	}
	c.Defaults()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Validate refuses a configuration that no replica can run on; the error lists
// everything wrong with it, and never a DSN, which may hold a password.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	check(err == nil, "listen: %q: want host:port", c.Listen)
	check(isDSN(c.CatalogDSN), "catalog_dsn: want the connection string of the catalog database")
	check(isDSN(c.AuditDSN), "audit_dsn: want the connection string of the audit database")
	check(isNATS(c.NATSURL), "nats_url: want nats://host:port of the NATS server")
	check(c.SecretsDir != "", "secrets_dir: where are the logins kept?")
	check(c.TokensFile != "", "tokens_file: who may use the admin API?")
	check(c.NATSReplicas >= 1 && c.NATSReplicas <= 5, "nats_replicas: %d: want 1 to 5", c.NATSReplicas)
	check(c.TenantConnections > 0, "tenant_connections: must be positive")
	check(c.StatementTimeout > 0 && c.IdleInTxTimeout > 0, "statement_timeout, idle_in_transaction_timeout: must be positive")
	check(c.DeleteGrace > 0 && c.MoveGrace > 0, "delete_grace, move_grace: must be positive")
	check(c.Workers > 0 && c.LeaseFor > 0, "workers, lease_for: must be positive")
	if len(faults) > 0 {
		return fmt.Errorf("control-plane configuration: %w", errors.Join(faults...))
	}
	return nil
}

func isDSN(s string) bool {
	_, err := pgx.ParseConfig(s)
	return s != "" && err == nil
}

func isNATS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "nats" || u.Scheme == "tls")
}
