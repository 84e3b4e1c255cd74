// Package controlplane assembles one replica of the control plane: catalog,
// step engine, operations, publishing, audit and the admin API. Any number of
// replicas may run on one catalog; work is claimed by lease.
//
// Import law: controlplane and everything below it never import dataplane.
package controlplane

import (
	"log/slog"
	"time"

	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secretstore"
	"github.com/freehold-db/freehold/internal/vault"
)

// Config is everything a replica needs to know. It is read from a YAML file
// and overridden by environment variables; nothing secret is ever a flag.
type Config struct {
	// Name of this replica, unique in the fleet; default host name and process ID.
	Name string `yaml:"name" env:"FREEHOLD_NAME"`
	// Listen is the admin API's address, e.g. 127.0.0.1:7400.
	Listen string `yaml:"listen" env:"FREEHOLD_LISTEN"`
	// TLSCertFile and TLSKeyFile (PEM) make it HTTPS; TLSClientCAFile has every client show a certificate of one of its roots.
	TLSCertFile     string `yaml:"tls_cert_file" env:"FREEHOLD_TLS_CERT_FILE"`
	TLSKeyFile      string `yaml:"tls_key_file" env:"FREEHOLD_TLS_KEY_FILE"`
	TLSClientCAFile string `yaml:"tls_client_ca_file" env:"FREEHOLD_TLS_CLIENT_CA_FILE"`
	// CatalogDSN is the catalog database (migrated at start), AuditDSN the audit database of its own.
	CatalogDSN string `yaml:"catalog_dsn" env:"FREEHOLD_CATALOG_DSN"`
	AuditDSN   string `yaml:"audit_dsn" env:"FREEHOLD_AUDIT_DSN"`
	// AuditOwnerDSN is the login that owns the audit database and migrates it at start; one
	// replica is enough to have it. AuditDSN is then a login that can add records and nothing
	// else. Empty: AuditDSN migrates if it may.
	AuditOwnerDSN string `yaml:"audit_owner_dsn" env:"FREEHOLD_AUDIT_OWNER_DSN"`
	// AuditSigningKey is where the secret store keeps the key that signs the audit log; another
	// path makes another key, which signs from then on.
	AuditSigningKey string `yaml:"audit_signing_key" env:"FREEHOLD_AUDIT_SIGNING_KEY"`
	// AuditCheckpointEvery is the time between signed checkpoints, if the log grew.
	AuditCheckpointEvery time.Duration `yaml:"audit_checkpoint_every" env:"FREEHOLD_AUDIT_CHECKPOINT_EVERY"`
	// AuditAnchorDir is a directory that gets every checkpoint as a file: a mounted bucket whose objects are locked, say.
	AuditAnchorDir string `yaml:"audit_anchor_dir" env:"FREEHOLD_AUDIT_ANCHOR_DIR"`
	// AuditOutboxMax is how many records may wait to be in the audit log before changes are refused.
	AuditOutboxMax int64 `yaml:"audit_outbox_max" env:"FREEHOLD_AUDIT_OUTBOX_MAX"`
	// AuditStreamKeep is how long the log's copy in NATS keeps a record, AuditStreamMaxMB how large it
	// gets, in MB. Both are of a stream that is made anew: none that is there is changed.
	AuditStreamKeep  time.Duration `yaml:"audit_stream_keep" env:"FREEHOLD_AUDIT_STREAM_KEEP"`
	AuditStreamMaxMB int           `yaml:"audit_stream_max_mb" env:"FREEHOLD_AUDIT_STREAM_MAX_MB"`
	// DatabaseTLS secures every link to a shard's Postgres and PgBouncer, and those between
	// shards. When it is on, CatalogDSN and AuditDSN must verify their servers, too.
	DatabaseTLS pg.TLS `yaml:"database_tls"`
	// NATSURL is where NATS is; with tls:// nothing is said without TLS.
	NATSURL string `yaml:"nats_url" env:"FREEHOLD_NATS_URL"`
	// NATSSeedFile holds the seed of the control plane's NKey. NATSCAFile holds the roots by which
	// NATS is believed (empty: the system's), NATSCertFile and NATSKeyFile what it is shown.
	NATSSeedFile string `yaml:"nats_seed_file" env:"FREEHOLD_NATS_SEED_FILE"`
	// NATSAuditSeedFile holds the seed of the NKey by which the audit log's stream is added to; empty: as the control plane.
	NATSAuditSeedFile string `yaml:"nats_audit_seed_file" env:"FREEHOLD_NATS_AUDIT_SEED_FILE"`
	NATSCAFile        string `yaml:"nats_ca_file" env:"FREEHOLD_NATS_CA_FILE"`
	NATSCertFile      string `yaml:"nats_cert_file" env:"FREEHOLD_NATS_CERT_FILE"`
	NATSKeyFile       string `yaml:"nats_key_file" env:"FREEHOLD_NATS_KEY_FILE"`
	// NATSReplicas of the KV buckets: 1 in development, 3 in a cluster.
	NATSReplicas int `yaml:"nats_replicas" env:"FREEHOLD_NATS_REPLICAS"`
	// Environment is what the fleet is for, development or production. SecretStore is where logins
	// and keys are: dir, encrypted files in SecretsDir, or vault. In production EmbeddedSecrets must
	// be set for dir to be accepted.
	Environment     string       `yaml:"environment" env:"FREEHOLD_ENVIRONMENT"`
	SecretStore     string       `yaml:"secret_store" env:"FREEHOLD_SECRET_STORE"`
	EmbeddedSecrets bool         `yaml:"embedded_secrets" env:"FREEHOLD_EMBEDDED_SECRETS"`
	SecretsDir      string       `yaml:"secrets_dir" env:"FREEHOLD_SECRETS_DIR"`
	Vault           vault.Config `yaml:"vault"`
	// MigrationsDir holds the application schema every tenant gets: goose SQL files.
	MigrationsDir string `yaml:"migrations_dir" env:"FREEHOLD_MIGRATIONS_DIR"`
	// TokensFile lists the admin API's bearer tokens as JSON: [{"name","role","sha256"}] (hex of SHA-256 of the token).
	TokensFile string `yaml:"tokens_file" env:"FREEHOLD_TOKENS_FILE"`
	// OIDCIssuers are where people sign in to the admin API; OIDCCAFile holds the roots by
	// which those issuers are believed, beside the system's.
	OIDCIssuers OIDCIssuers `yaml:"oidc_issuers" env:"FREEHOLD_OIDC_ISSUERS"`
	OIDCCAFile  string      `yaml:"oidc_ca_file" env:"FREEHOLD_OIDC_CA_FILE"`
	// BreakGlassMax bounds how long a person's login to a tenant's database lasts;
	// BreakGlassApproval wants another person's consent for each, BreakGlassReason a
	// reason also for those of tenant psql and dsn.
	BreakGlassMax      time.Duration `yaml:"break_glass_max" env:"FREEHOLD_BREAK_GLASS_MAX"`
	BreakGlassApproval bool          `yaml:"break_glass_approval" env:"FREEHOLD_BREAK_GLASS_APPROVAL"`
	BreakGlassReason   bool          `yaml:"break_glass_reason" env:"FREEHOLD_BREAK_GLASS_REASON"`
	// PGBinDir is where pg_dump and pg_restore are; empty: look for them. Several
	// directories, separated as PATH's are, hold those of several major versions:
	// what fits a move's source and target is taken.
	PGBinDir string `yaml:"pg_bin_dir" env:"FREEHOLD_PG_BINDIR"`

	// WarmPool is how many ready databases are kept on each active shard; negative: none.
	WarmPool int `yaml:"warm_pool" env:"FREEHOLD_WARM_POOL"`
	// TenantConnections bounds the logins of one tenant at its shard.
	TenantConnections int           `yaml:"tenant_connections" env:"FREEHOLD_TENANT_CONNECTIONS"`
	StatementTimeout  time.Duration `yaml:"statement_timeout" env:"FREEHOLD_STATEMENT_TIMEOUT"`
	IdleInTxTimeout   time.Duration `yaml:"idle_in_transaction_timeout" env:"FREEHOLD_IDLE_IN_TRANSACTION_TIMEOUT"`
	// TempFilesMB bounds what one session of a tenant may write to its shard's disk besides rows, in MB; negative: nothing does.
	TempFilesMB int `yaml:"temp_files_mb" env:"FREEHOLD_TEMP_FILES_MB"`
	// DeleteGrace is how long a deleted tenant is restorable; MoveGrace how long a move's source is kept.
	DeleteGrace time.Duration `yaml:"delete_grace" env:"FREEHOLD_DELETE_GRACE"`
	MoveGrace   time.Duration `yaml:"move_grace" env:"FREEHOLD_MOVE_GRACE"`
	// CopiesDir is where sealed copies of tenants are kept, on storage that all replicas reach; empty: none are made.
	CopiesDir string `yaml:"copies_dir" env:"FREEHOLD_COPIES_DIR"`
	// CopiesKeep is how long a copy is held unless its maker says otherwise.
	CopiesKeep time.Duration `yaml:"copies_keep" env:"FREEHOLD_COPIES_KEEP"`
	// MoveMaxActive is how many sessions may be active at a shard before a move's copy slows down
	// (0: four for each processor), MoveMaxLagMB how far its standbys and subscribers may be behind, in MB.
	MoveMaxActive int `yaml:"move_max_active" env:"FREEHOLD_MOVE_MAX_ACTIVE"`
	MoveMaxLagMB  int `yaml:"move_max_lag_mb" env:"FREEHOLD_MOVE_MAX_LAG_MB"`
	// RebalanceMaxP95 is what requests of a shard's tenants may take (95 of 100 take less) before
	// a run begins no more moves there; negative: no bound.
	RebalanceMaxP95 time.Duration `yaml:"rebalance_max_p95" env:"FREEHOLD_REBALANCE_MAX_P95"`
	// SoakMaxWALMB bounds the log, in MB, that a shard keeps so that a tenant can be taken back.
	SoakMaxWALMB int `yaml:"soak_max_wal_mb" env:"FREEHOLD_SOAK_MAX_WAL_MB"`
	// MeasureEvery is the time between looks at what a shard and its tenants use; negative: nobody looks.
	MeasureEvery time.Duration `yaml:"measure_every" env:"FREEHOLD_MEASURE_EVERY"`
	// RotateEvery is how old a credential gets before it is rotated by itself; negative: none is.
	RotateEvery time.Duration `yaml:"rotate_every" env:"FREEHOLD_ROTATE_EVERY"`
	// Workers is how many operations this replica runs at once, 2 at least; a third of
	// them is never held by moves, clones and comparisons.
	Workers int `yaml:"workers" env:"FREEHOLD_WORKERS"`
	// LeaseFor is how long a worker's lease lasts without renewal; takeover needs at most this and a poll.
	LeaseFor time.Duration `yaml:"lease_for" env:"FREEHOLD_LEASE_FOR"`

	// Log takes this server's log lines; nil: [slog.Default]. The development
	// fleet runs several servers in one process, each with a log of its own.
	Log *slog.Logger `yaml:"-"`
}

// Defaults fills what is zero.
func (c *Config) Defaults() {
	config.Default(&c.Name, config.InstanceName())
	config.Default(&c.Listen, "127.0.0.1:7400")
	config.Default(&c.NATSReplicas, 1)
	config.Default(&c.AuditSigningKey, "signing/audit")
	config.Default(&c.AuditCheckpointEvery, time.Minute)
	config.Default(&c.AuditOutboxMax, 100_000)
	config.Default(&c.AuditStreamKeep, 90*24*time.Hour)
	config.Default(&c.AuditStreamMaxMB, 1024)
	config.Default(&c.BreakGlassMax, 8*time.Hour)
	config.Default(&c.WarmPool, 4)
	config.Default(&c.TenantConnections, 40)
	config.Default(&c.StatementTimeout, 30*time.Second)
	config.Default(&c.IdleInTxTimeout, 30*time.Second)
	config.Default(&c.TempFilesMB, 1024)
	config.Default(&c.DeleteGrace, 7*24*time.Hour)
	config.Default(&c.CopiesKeep, 7*24*time.Hour)
	config.Default(&c.MoveGrace, 10*time.Minute)
	config.Default(&c.MoveMaxLagMB, 256)
	config.Default(&c.RebalanceMaxP95, 2*time.Second)
	config.Default(&c.SoakMaxWALMB, 4096)
	config.Default(&c.MeasureEvery, 10*time.Second)
	config.Default(&c.RotateEvery, 30*24*time.Hour)
	config.Default(&c.Workers, 6)
	config.Default(&c.LeaseFor, 5*time.Second)
	config.Default(&c.Environment, secretstore.Development)
	config.Default(&c.SecretStore, secretstore.Dir)
	c.Vault.Defaults()
}
