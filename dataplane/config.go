// Package dataplane assembles one stateless node: gateway, REST, router, shard
// map and its feed. Any node serves any tenant.
//
// Import law: dataplane and everything below it never import controlplane.
package dataplane

import (
	"log/slog"
	"time"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
	"github.com/freehold-db/freehold/dataplane/sqlhttp"
	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secretstore"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/router"
)

// Config is everything a node needs to know. It is read from a YAML file and
// overridden by environment variables; nothing secret is ever a flag.
type Config struct {
	// Name of this node, unique in the fleet; default host name and process ID.
	Name string `yaml:"name" env:"FREEHOLD_NAME"`
	// Listen is the REST API's address, e.g. 127.0.0.1:7500.
	Listen string `yaml:"listen" env:"FREEHOLD_LISTEN"`
	// TLSCertFile and TLSKeyFile (PEM) make it HTTPS; TLSClientCAFile has every client show a certificate of one of its roots.
	TLSCertFile     string `yaml:"tls_cert_file" env:"FREEHOLD_TLS_CERT_FILE"`
	TLSKeyFile      string `yaml:"tls_key_file" env:"FREEHOLD_TLS_KEY_FILE"`
	TLSClientCAFile string `yaml:"tls_client_ca_file" env:"FREEHOLD_TLS_CLIENT_CA_FILE"`
	// TLSMin is the oldest version of TLS spoken, 1.2 or 1.3.
	TLSMin string `yaml:"tls_min" env:"FREEHOLD_TLS_MIN"`
	// Connections bounds the clients' open connections, ConnectionsPerAddress those from one address (0: nothing does).
	Connections           int `yaml:"connections" env:"FREEHOLD_CONNECTIONS"`
	ConnectionsPerAddress int `yaml:"connections_per_address" env:"FREEHOLD_CONNECTIONS_PER_ADDRESS"`
	// OpsListen is where metrics and probes are served, for operators alone; empty: nowhere. OpsPprof serves profiles there, too.
	OpsListen string `yaml:"ops_listen" env:"FREEHOLD_OPS_LISTEN"`
	OpsPprof  bool   `yaml:"ops_pprof" env:"FREEHOLD_OPS_PPROF"`
	// OpsTLS has it speak HTTPS, too, with the node's certificate.
	OpsTLS bool `yaml:"ops_tls" env:"FREEHOLD_OPS_TLS"`
	// CORSOrigins may use the API from a browser: origins, or `*` or `none` alone.
	CORSOrigins []string `yaml:"cors_origins" env:"FREEHOLD_CORS_ORIGINS"`
	// TrustedProxies are the addresses and prefixes of those in front of the node whose
	// X-Forwarded-For, -Proto and -Host, X-Request-Id and traceparent count.
	TrustedProxies []string `yaml:"trusted_proxies" env:"FREEHOLD_TRUSTED_PROXIES"`
	// ClientTraces has X-Request-Id and traceparent count from every client.
	ClientTraces bool `yaml:"client_traces" env:"FREEHOLD_CLIENT_TRACES"`
	// ServerTiming has answers tell where their time went.
	ServerTiming bool `yaml:"server_timing" env:"FREEHOLD_SERVER_TIMING"`
	// CompressFrom is how many bytes an answer must have to be compressed; negative: none is.
	CompressFrom int `yaml:"compress_from" env:"FREEHOLD_COMPRESS_FROM"`
	// NATSURL is where NATS is; with tls:// nothing is said without TLS.
	NATSURL string `yaml:"nats_url" env:"FREEHOLD_NATS_URL"`
	// NATSSeedFile holds the seed of this node's NKey. NATSCAFile holds the roots by which NATS
	// is believed (empty: the system's), NATSCertFile and NATSKeyFile what it is shown.
	NATSSeedFile string `yaml:"nats_seed_file" env:"FREEHOLD_NATS_SEED_FILE"`
	NATSCAFile   string `yaml:"nats_ca_file" env:"FREEHOLD_NATS_CA_FILE"`
	NATSCertFile string `yaml:"nats_cert_file" env:"FREEHOLD_NATS_CERT_FILE"`
	NATSKeyFile  string `yaml:"nats_key_file" env:"FREEHOLD_NATS_KEY_FILE"`
	// ControlURL is the admin API, asked for placements that the KV bucket does not have.
	ControlURL string `yaml:"control_url" env:"FREEHOLD_CONTROL_URL"`
	// ControlTokenFile holds the bearer token (role node) for ControlURL.
	ControlTokenFile string `yaml:"control_token_file" env:"FREEHOLD_CONTROL_TOKEN_FILE"`
	// ControlCAFile holds the roots by which the control plane is believed (empty: the system's),
	// ControlCertFile and ControlKeyFile what it is shown.
	ControlCAFile   string `yaml:"control_ca_file" env:"FREEHOLD_CONTROL_CA_FILE"`
	ControlCertFile string `yaml:"control_cert_file" env:"FREEHOLD_CONTROL_CERT_FILE"`
	ControlKeyFile  string `yaml:"control_key_file" env:"FREEHOLD_CONTROL_KEY_FILE"`
	// Environment is what the fleet is for, development or production. SecretStore is where the tenants'
	// logins are: dir, encrypted files in SecretsDir, or vault. In production EmbeddedSecrets must
	// be set for dir to be accepted.
	Environment     string       `yaml:"environment" env:"FREEHOLD_ENVIRONMENT"`
	SecretStore     string       `yaml:"secret_store" env:"FREEHOLD_SECRET_STORE"`
	EmbeddedSecrets bool         `yaml:"embedded_secrets" env:"FREEHOLD_EMBEDDED_SECRETS"`
	SecretsDir      string       `yaml:"secrets_dir" env:"FREEHOLD_SECRETS_DIR"`
	Vault           vault.Config `yaml:"vault"`

	// DatabaseTLS secures the connections to PgBouncers.
	DatabaseTLS pg.TLS `yaml:"database_tls"`

	// Issuer and Audience are what a token's iss and aud must be; JWKSURL is where the issuer's keys are.
	Issuer   string `yaml:"issuer" env:"FREEHOLD_ISSUER"`
	Audience string `yaml:"audience" env:"FREEHOLD_AUDIENCE"`
	JWKSURL  string `yaml:"jwks_url" env:"FREEHOLD_JWKS_URL"`
	// IssuerCAFile holds roots by which the fleet's own issuers are believed besides the system's.
	IssuerCAFile string `yaml:"issuer_ca_file" env:"FREEHOLD_ISSUER_CA_FILE"`
	// Issuers are further ones of the whole fleet.
	Issuers Issuers `yaml:"issuers" env:"FREEHOLD_ISSUERS"`
	// Algorithms pins the signature algorithms accepted; default EdDSA, ES256, RS256.
	Algorithms []string `yaml:"algorithms" env:"FREEHOLD_ALGORITHMS"`
	// TenantClaim and RoleClaim are where a token names tenant and role, paths with dots.
	TenantClaim string `yaml:"tenant_claim" env:"FREEHOLD_TENANT_CLAIM"`
	RoleClaim   string `yaml:"role_claim" env:"FREEHOLD_ROLE_CLAIM"`
	// ClockSkew is how far an issuer's clock may be off; MaxToken bounds a token in bytes.
	ClockSkew time.Duration `yaml:"clock_skew" env:"FREEHOLD_CLOCK_SKEW"`
	MaxToken  int           `yaml:"max_token" env:"FREEHOLD_MAX_TOKEN"`
	// IssuerNetworks are networks (CIDR) in which tenants' own issuers may be
	// although they are not public; there, plain http will do.
	IssuerNetworks []string `yaml:"issuer_networks" env:"FREEHOLD_ISSUER_NETWORKS"`
	// HS256SecretFile holds a secret that signs tokens for any tenant. It needs Development, which production never sets.
	HS256SecretFile string `yaml:"hs256_secret_file" env:"FREEHOLD_HS256_SECRET_FILE"`
	Development     bool   `yaml:"development" env:"FREEHOLD_DEVELOPMENT"`
	// TenantFrom is what may name a request's tenant, the first that does picks it: claim, subdomain, header.
	TenantFrom []string `yaml:"tenant_from" env:"FREEHOLD_TENANT_FROM"`
	// TenantHeader is the header that does.
	TenantHeader string `yaml:"tenant_header" env:"FREEHOLD_TENANT_HEADER"`
	// Domain, when set, makes `<tenant>.<domain>` a claim about the tenant that must agree with the token.
	Domain string `yaml:"domain" env:"FREEHOLD_DOMAIN"`

	// MapSize bounds the shard map's cached placements.
	MapSize int `yaml:"map_size" env:"FREEHOLD_MAP_SIZE"`
	// SchemaBytes bounds the schemas kept in memory, all together; tenants with the same share one.
	SchemaBytes int64 `yaml:"schema_bytes" env:"FREEHOLD_SCHEMA_BYTES"`
	// MaxBody bounds a request's body in bytes; MaxRows an answer's rows, MaxAnswer its bytes.
	MaxBody   int64 `yaml:"max_body" env:"FREEHOLD_MAX_BODY"`
	MaxRows   int   `yaml:"max_rows" env:"FREEHOLD_MAX_ROWS"`
	MaxAnswer int64 `yaml:"max_answer" env:"FREEHOLD_MAX_ANSWER"`
	// Schemas are exposed to tenants without a list of their own, the first is the
	// default; ExtraSearchPath is where SQL finds things besides, [""] is nowhere.
	Schemas         []string `yaml:"schemas" env:"FREEHOLD_SCHEMAS"`
	ExtraSearchPath []string `yaml:"extra_search_path" env:"FREEHOLD_EXTRA_SEARCH_PATH"`
	// HoistedSettings are the settings of a called function that hold for its whole transaction.
	HoistedSettings []string `yaml:"hoisted_settings" env:"FREEHOLD_HOISTED_SETTINGS"`
	// OpenAPI says whose privileges the document at the root follows, see rest.Options.
	OpenAPI string `yaml:"openapi" env:"FREEHOLD_OPENAPI"`
	// Aggregates lets clients aggregate rows, Plans see execution plans, Rollback ask for what they wrote to be undone.
	Aggregates bool `yaml:"aggregates" env:"FREEHOLD_AGGREGATES"`
	Plans      bool `yaml:"plans" env:"FREEHOLD_PLANS"`
	Rollback   bool `yaml:"rollback" env:"FREEHOLD_ROLLBACK"`
	// RatePerTenant is requests per second per tenant over all nodes (0: unlimited), Burst its
	// bucket. Like MaxBody, MaxRows and MaxAnswer, they are for tenants of whom neither plan nor tenant says more.
	RatePerTenant float64       `yaml:"rate_per_tenant" env:"FREEHOLD_RATE_PER_TENANT"`
	Burst         int           `yaml:"burst" env:"FREEHOLD_BURST"`
	RequestFor    time.Duration `yaml:"request_for" env:"FREEHOLD_REQUEST_FOR"`
	DrainFor      time.Duration `yaml:"drain_for" env:"FREEHOLD_DRAIN_FOR"`

	// SQL bounds SQL over HTTP.
	SQL    sqlhttp.Limits `yaml:"sql"`
	Router router.Config  `yaml:"router"`
	Limits limit.Config   `yaml:"limits"`

	// Log takes this server's log lines; nil: [slog.Default]. The development
	// fleet runs several servers in one process, each with a log of its own.
	Log *slog.Logger `yaml:"-"`
}

// schemaRoom is how much longer than an answer a message of a server may be:
// what is asked about a tenant's schema is one row, too.
const schemaRoom = 16 << 20

// aroundMessage is more than a message has beside the one value in it.
const aroundMessage = 1 << 10

// Defaults fills what is zero.
func (c *Config) Defaults() {
	config.Default(&c.Name, config.InstanceName())
	config.Default(&c.Listen, "127.0.0.1:7500")
	config.Default(&c.TLSMin, "1.2")
	config.Default(&c.Connections, 10_000)
	config.Default(&c.CompressFrom, 4096)
	config.Default(&c.Audience, "freehold")
	config.Default(&c.TenantClaim, "tenant")
	config.Default(&c.RoleClaim, "role")
	config.Default(&c.ClockSkew, 5*time.Second)
	config.Default(&c.MaxToken, 8<<10)
	config.Default(&c.TenantHeader, "X-Tenant-ID")
	config.Default(&c.MapSize, 1_000_000)
	config.Default(&c.SchemaBytes, schema.DefaultBytes)
	config.Default(&c.MaxBody, 1<<20)
	config.Default(&c.MaxRows, 10_000)
	config.Default(&c.MaxAnswer, 16<<20)
	config.Default(&c.OpenAPI, rest.OpenAPIFollow)
	if len(c.Schemas) == 0 {
		c.Schemas = []string{"public"}
	}
	if len(c.ExtraSearchPath) == 0 {
		c.ExtraSearchPath = []string{"public"}
	}
	if len(c.HoistedSettings) == 0 {
		c.HoistedSettings = rest.HoistedSettings
	}
	config.Default(&c.RequestFor, 30*time.Second)
	config.Default(&c.DrainFor, 10*time.Second)
	config.Default(&c.Router.MaxMessage, int(c.MaxAnswer)+schemaRoom)
	c.SQL.Defaults()
	c.Router.Defaults()
	config.Default(&c.Limits.TenantConcurrency, 2*c.Router.TenantConns)
	c.Limits.Defaults()
	if len(c.CORSOrigins) == 0 {
		c.CORSOrigins = []string{"*"}
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"EdDSA", "ES256", "RS256"}
	}
	if len(c.Issuers) == 0 {
		c.Issuers = nil // as an empty list of a file is
	}
	if len(c.TrustedProxies) == 0 { // none, however it is written
		c.TrustedProxies = nil
	}
	if len(c.IssuerNetworks) == 0 {
		c.IssuerNetworks = nil
	}
	if len(c.TenantFrom) == 0 {
		c.TenantFrom = []string{gateway.FromClaim, gateway.FromSubdomain, gateway.FromHeader}
	}
	config.Default(&c.Environment, secretstore.Development)
	config.Default(&c.SecretStore, secretstore.Dir)
	c.Vault.Defaults()
}
