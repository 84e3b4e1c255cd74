package controlplane

import (
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secretstore"
)

// what names the configuration in errors.
const what = "control-plane configuration"

// LoadConfig reads a YAML file (an empty path: none), lets environment
// variables override it, fills in defaults and validates. An unknown key is an
// error: a typo must not silently leave a bound off.
func LoadConfig(path string) (Config, error) { return config.Load[Config](what, path) }

// Validate refuses a configuration that no replica can run on; the error lists
// everything wrong with it, and never a DSN, which may hold a password.
func (c *Config) Validate() error {
	var faults config.Faults
	check := faults.Check
	_, _, err := net.SplitHostPort(c.Listen)
	check(err == nil, "listen: %q: want host:port", c.Listen)
	check(isDSN(c.CatalogDSN), "catalog_dsn: want the connection string of the catalog database")
	check(isDSN(c.AuditDSN), "audit_dsn: want the connection string of the audit database")
	check(c.AuditOwnerDSN == "" || isDSN(c.AuditOwnerDSN), "audit_owner_dsn: want the connection string of the audit database, as its owner")
	check(c.AuditCheckpointEvery > 0, "audit_checkpoint_every: must be positive")
	err = c.DatabaseTLS.Validate()
	check(err == nil, "database_tls: %w", err)
	check(c.Environment != secretstore.Production || c.DatabaseTLS.Mode != "",
		"database_tls.mode: in production say verify-full (or require, or disable if every server is reached by a socket or on this machine)")
	if c.DatabaseTLS.On() {
		for name, dsn := range map[string]string{"catalog_dsn": c.CatalogDSN, "audit_dsn": c.AuditDSN, "audit_owner_dsn": c.AuditOwnerDSN} {
			if dsn == "" {
				continue
			}
			exposed, err := pg.Exposed(dsn)
			check(err != nil || exposed == "", "%s: %s (database_tls is on)", name, exposed)
		}
	}
	err = natslink.CheckURL(c.NATSURL)
	check(err == nil, "nats_url: %w", err)
	check((c.NATSCertFile == "") == (c.NATSKeyFile == ""), "nats_cert_file, nats_key_file: one without the other")
	check((c.TLSCertFile == "") == (c.TLSKeyFile == ""), "tls_cert_file, tls_key_file: one without the other")
	check(c.TLSClientCAFile == "" || c.TLSCertFile != "", "tls_client_ca_file: clients show certificates by TLS alone: set tls_cert_file")
	c.secrets().Check(&faults)
	check(c.TokensFile != "", "tokens_file: who may use the admin API?")
	c.checkIdentities(&faults)
	check(c.NATSReplicas >= 1 && c.NATSReplicas <= 5, "nats_replicas: %d: want 1 to 5", c.NATSReplicas)
	check(c.TenantConnections > 0, "tenant_connections: must be positive")
	check(c.StatementTimeout > 0 && c.IdleInTxTimeout > 0, "statement_timeout, idle_in_transaction_timeout: must be positive")
	check(c.DeleteGrace > 0 && c.MoveGrace > 0, "delete_grace, move_grace: must be positive")
	check(c.CopiesKeep >= time.Minute, "copies_keep: %s: want a minute at least", c.CopiesKeep)
	check(c.MoveMaxActive >= 0 && c.MoveMaxLagMB > 0, "move_max_active, move_max_lag_mb: must not be negative, the lag not 0")
	check(c.SoakMaxWALMB > 0, "soak_max_wal_mb: must be positive")
	check(c.MeasureEvery < 0 || c.MeasureEvery >= 100*time.Millisecond, "measure_every: %s: want 100ms at least, or less than nothing for never", c.MeasureEvery)
	check(c.Workers > 0 && c.LeaseFor > 0, "workers, lease_for: must be positive")
	return faults.Err(what)
}

func isDSN(s string) bool {
	_, err := pgx.ParseConfig(s)
	return s != "" && err == nil
}

// nats is where NATS is, and who the replica is there.
func (c *Config) nats() natslink.Config {
	return natslink.Config{URL: c.NATSURL, SeedFile: c.NATSSeedFile,
		TLS: clienttls.Files{CA: c.NATSCAFile, Certificate: c.NATSCertFile, Key: c.NATSKeyFile}}
}
