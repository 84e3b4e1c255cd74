package dataplane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/config"
)

// Issuer is a token issuer of the whole fleet.
type Issuer struct {
	// URL is what its tokens' iss must be; JWKSURL where its keys are, if not where its discovery document says.
	URL     string `yaml:"url"`
	JWKSURL string `yaml:"jwks_url,omitempty"`
	// Audience, Algorithms, TenantClaim and RoleClaim go before the node's.
	Audience    string   `yaml:"audience,omitempty"`
	Algorithms  []string `yaml:"algorithms,omitempty"`
	TenantClaim string   `yaml:"tenant_claim,omitempty"`
	RoleClaim   string   `yaml:"role_claim,omitempty"`
	// DefaultRole is the role of its tokens that name none; without one they are refused.
	DefaultRole string `yaml:"default_role,omitempty"`
}

// Issuers is a list that a variable can hold, too, as YAML or JSON.
type Issuers []Issuer

// UnmarshalText reads a variable's value.
func (i *Issuers) UnmarshalText(text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode((*[]Issuer)(i)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("issuers: %w", err)
	}
	return nil
}

// String lists the issuers' URLs.
func (i Issuers) String() string {
	urls := make([]string, len(i))
	for n := range i {
		urls[n] = i[n].URL
	}
	return strings.Join(urls, ",")
}

// trusted are the fleet's issuers, the one of the single fields first.
func (c *Config) trusted() (all []bearer.Issuer) {
	list := c.Issuers
	if c.Issuer != "" {
		list = append(Issuers{{URL: c.Issuer, JWKSURL: c.JWKSURL}}, list...)
	}
	for _, i := range list {
		all = append(all, bearer.Issuer{TenantClaim: i.TenantClaim, Issuer: access.Issuer{URL: i.URL, JWKSURL: i.JWKSURL,
			Audience: i.Audience, Algorithms: i.Algorithms, RoleClaim: i.RoleClaim, DefaultRole: i.DefaultRole}})
	}
	return all
}

// naming is what names a request's tenant.
func (c *Config) naming() gateway.Naming {
	return gateway.Naming{From: c.TenantFrom, Domain: c.Domain, Header: c.TenantHeader}
}

// networks are where tenants' issuers may be although they are not public.
func (c *Config) networks() (all []netip.Prefix, err error) {
	for _, s := range c.IssuerNetworks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("issuer_networks: %w", err)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

const (
	maxSkew  = 5 * time.Minute
	maxToken = 14 << 10 // a request's head has 16 KiB
)

// checkIssuers finds what no token could be verified with.
func (c *Config) checkIssuers(faults *config.Faults) {
	check := faults.Check
	issuers := c.trusted()
	check(len(issuers) > 0 || c.HS256SecretFile != "", "issuer: the http(s) URL of a token issuer is required")
	seen := map[string]bool{}
	for _, i := range issuers {
		err := i.Validate()
		check(err == nil, "issuer: %w", err)
		check(!seen[i.URL], "issuers: %s is there twice", i.URL)
		seen[i.URL] = true
		if i.TenantClaim != "" {
			err = access.CheckClaim(i.TenantClaim)
			check(err == nil, "issuers: tenant_claim: %w", err)
		}
	}
	check(c.JWKSURL == "" || c.Issuer != "", "jwks_url: whose keys are there? (issuer is empty)")
	for name, claim := range map[string]string{"tenant_claim": c.TenantClaim, "role_claim": c.RoleClaim} {
		err := access.CheckClaim(claim)
		check(err == nil, "%s: %w", name, err)
	}
	check(c.ClockSkew >= 0 && c.ClockSkew <= maxSkew, "clock_skew: must be between 0 and %s", maxSkew)
	check(c.MaxToken > 0 && c.MaxToken <= maxToken, "max_token: must be between 1 and %d, which a request's head has room for", maxToken)
	check(c.HS256SecretFile == "" || c.Development, "hs256_secret_file: a shared secret speaks for every tenant; it is for development, which must be said: development: true")
	_, err := c.networks()
	check(err == nil, "%w", err)
	err = c.naming().Check()
	check(err == nil, "tenant_from, tenant_header: %w", err)
	err = bearer.CheckAlgorithms(c.Algorithms)
	check(err == nil, "algorithms: %w", err)
}

// verifier makes what judges credentials.
func (s *Server) verifier() (*bearer.Verifier, error) {
	networks, err := s.cfg.networks()
	if err != nil {
		return nil, err
	}
	var shared []byte
	if s.cfg.HS256SecretFile != "" {
		if shared, err = os.ReadFile(s.cfg.HS256SecretFile); err != nil {
			return nil, fmt.Errorf("hs256_secret_file: %w", err)
		}
		shared = bytes.TrimSpace(shared)
		s.log.Warn("tokens signed with a shared secret are accepted for every tenant: this is for development only")
	}
	secure, err := clienttls.Load(clienttls.Files{CA: s.cfg.IssuerCAFile, System: true})
	if err != nil {
		return nil, fmt.Errorf("issuer_ca_file: %w", err)
	}
	return bearer.New(bearer.Config{TLS: secure, Issuers: s.cfg.trusted(), Audience: s.cfg.Audience, Algorithms: s.cfg.Algorithms,
		TenantClaim: s.cfg.TenantClaim, RoleClaim: s.cfg.RoleClaim, Leeway: s.cfg.ClockSkew, MaxToken: s.cfg.MaxToken,
		Secret: shared, Directory: s.source.directory, Networks: networks, Log: s.log})
}
