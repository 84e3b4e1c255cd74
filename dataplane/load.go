package dataplane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/caarlos0/env/v11"
	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
)

// LoadConfig reads a YAML file (an empty path: none), lets environment
// variables override it, fills in defaults and validates. An unknown key is an
// error: a typo must not silently leave a limit off.
func LoadConfig(path string) (Config, error) {
	var c Config
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("data-plane configuration: %w", err)
		}
		dec := yaml.NewDecoder(bytes.NewReader(b))
		dec.KnownFields(true)
		if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
			return Config{}, fmt.Errorf("data-plane configuration: %s: %w", path, err)
		}
	}
	if err := env.Parse(&c); err != nil {
		return Config{}, fmt.Errorf("data-plane configuration: %w", err)
	}
	c.Defaults()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Validate refuses a configuration no node can run on; the error lists everything wrong with it.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	check(err == nil, "listen: %q: want host:port", c.Listen)
	check(c.SecretsDir != "", "secrets_dir: where are the tenants' logins?")
	check(isURL(c.Issuer, "http", "https"), "issuer: %q: want the http(s) URL of the token issuer", c.Issuer)
	check(c.JWKSURL == "" || isURL(c.JWKSURL, "http", "https"), "jwks_url: %q: want an http(s) URL, or nothing to discover it", c.JWKSURL)
	check(c.NATSURL != "", "nats_url: where are the placements published?")
	for base := range strings.SplitSeq(c.ControlURL, ",") {
		check(c.ControlURL == "" || isURL(base, "http", "https"), "control_url: %q: want an http(s) URL, or several with commas between", base)
	}
	check(c.RatePerTenant >= 0 && c.Burst >= 0, "rate_per_tenant, burst: must not be negative")
	check(c.MaxBody > 0 && c.MaxRows > 0 && c.MapSize > 0, "max_body, max_rows, map_size: must be positive")
	check(c.RequestFor > 0 && c.DrainFor > 0, "request_for, drain_for: must be positive")
	if err := bearer.CheckAlgorithms(c.Algorithms); err != nil {
		faults = append(faults, fmt.Errorf("algorithms: %w", err))
	}
	if len(faults) > 0 {
		return fmt.Errorf("data-plane configuration: %w", errors.Join(faults...))
	}
	return nil
}

func isURL(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			return true
		}
	}
	return false
}
