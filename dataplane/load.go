package dataplane

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/secretstore"
)

// what names the configuration in errors.
const what = "data-plane configuration"

// LoadConfig reads a YAML file (an empty path: none), lets environment
// variables override it, fills in defaults and validates. An unknown key is an
// error: a typo must not silently leave a limit off.
func LoadConfig(path string) (Config, error) { return config.Load[Config](what, path) }

// Validate refuses a configuration no node can run on; the error lists everything wrong with it.
func (c *Config) Validate() error {
	var faults config.Faults
	check := faults.Check
	_, _, err := net.SplitHostPort(c.Listen)
	check(err == nil, "listen: %q: want host:port", c.Listen)
	check((c.TLSCertFile == "") == (c.TLSKeyFile == ""), "tls_cert_file, tls_key_file: one without the other")
	check(c.TLSClientCAFile == "" || c.TLSCertFile != "", "tls_client_ca_file: clients show certificates by TLS alone: set tls_cert_file")
	check(tlsVersions[c.TLSMin] != 0, "tls_min: %q: want 1.2 or 1.3", c.TLSMin)
	if c.OpsListen != "" {
		_, _, err = net.SplitHostPort(c.OpsListen)
		check(err == nil, "ops_listen: %q: want host:port, or nothing", c.OpsListen)
	}
	check(c.Connections > 0 && c.ConnectionsPerAddress >= 0, "connections: must be positive; connections_per_address: must not be negative")
	check(!c.OpsTLS || c.TLSCertFile != "", "ops_tls: with which certificate? (tls_cert_file is empty)")
	check(c.OpsListen != "" || !c.OpsPprof, "ops_pprof: set ops_listen, where profiles would be")
	err = gateway.CheckOrigins(c.CORSOrigins)
	check(err == nil, "cors_origins: %w", err)
	err = gateway.CheckProxies(c.TrustedProxies)
	check(err == nil, "trusted_proxies: %w", err)
	c.secrets().Check(&faults)
	err = c.DatabaseTLS.Validate()
	check(err == nil, "database_tls: %w", err)
	check(c.Environment != secretstore.Production || c.DatabaseTLS.Mode != "",
		"database_tls.mode: in production say verify-full (or require, or disable if every server is reached by a socket or on this machine)")
	c.checkIssuers(&faults)
	err = natslink.CheckURL(c.NATSURL)
	check(err == nil, "nats_url: %w", err)
	check((c.NATSCertFile == "") == (c.NATSKeyFile == ""), "nats_cert_file, nats_key_file: one without the other")
	check((c.ControlCertFile == "") == (c.ControlKeyFile == ""), "control_cert_file, control_key_file: one without the other")
	for base := range strings.SplitSeq(c.ControlURL, ",") {
		check(c.ControlURL == "" || isURL(base, "http", "https"), "control_url: %q: want an http(s) URL, or several with commas between", base)
	}
	check(c.RatePerTenant >= 0 && c.Burst >= 0, "rate_per_tenant, burst: must not be negative")
	check(c.MaxBody > 0 && c.MaxRows > 0 && c.MaxAnswer > 0 && c.MapSize > 0 && c.SchemaBytes > 0, "max_body, max_rows, max_answer, map_size, schema_bytes: must be positive")
	for _, name := range c.Schemas {
		check(rest.Exposable(name), "schemas: %q: is Postgres' own or the platform's, and never exposed", name)
	}
	check(slices.Contains(rest.OpenAPIModes, c.OpenAPI), "openapi: %q: want one of %s", c.OpenAPI, strings.Join(rest.OpenAPIModes, ", "))
	r := c.Router
	check(int64(r.MaxMessage) > c.MaxAnswer, "router: max_message: must be more than max_answer")
	check(min(r.NodeConns, r.ShardConns, r.TenantConns, r.HeldMax, r.WaitingMax, r.MaxMessage) > 0, "router: node_conns, shard_conns, tenant_conns, held_max, waiting_max, max_message: must be positive")
	check(min(r.IdleAfter, r.AcquireFor, r.HoldFor, r.RetryFor, r.ConnectFor, r.LeaseFor) > 0,
		"router: idle_after, acquire_for, hold_for, retry_for, connect_for, lease_for: must be positive")
	err = c.Limits.Validate()
	check(err == nil, "%w", err)
	check(c.RequestFor > 0 && c.DrainFor > 0, "request_for, drain_for: must be positive")
	return faults.Err(what)
}

// nats is where NATS is, and who the node is there.
func (c *Config) nats() natslink.Config {
	return natslink.Config{URL: c.NATSURL, SeedFile: c.NATSSeedFile,
		TLS: clienttls.Files{CA: c.NATSCAFile, Certificate: c.NATSCertFile, Key: c.NATSKeyFile}}
}

func isURL(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme)
}

// secrets is which store the configuration names.
func (c *Config) secrets() *secretstore.Named {
	return &secretstore.Named{Store: c.SecretStore, SecretsDir: c.SecretsDir, Environment: c.Environment, EmbeddedSecrets: c.EmbeddedSecrets, Vault: c.Vault}
}
