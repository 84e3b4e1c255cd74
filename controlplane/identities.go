package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/breakglass"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/config"
)

// OIDCIssuers is a list that a variable can hold, too, as YAML or JSON.
type OIDCIssuers []identity.Issuer

// UnmarshalText reads a variable's value.
func (i *OIDCIssuers) UnmarshalText(text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode((*[]identity.Issuer)(i)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("oidc_issuers: %w", err)
	}
	return nil
}

// String lists the issuers' names.
func (i OIDCIssuers) String() string {
	names := make([]string, len(i))
	for n := range i {
		names[n] = i[n].Name
	}
	return strings.Join(names, ",")
}

// maxBreakGlass bounds what may be configured as the longest access of a person.
const maxBreakGlass = 24 * time.Hour

func (c *Config) checkIdentities(faults *config.Faults) {
	_, err := identity.NewPeople(c.OIDCIssuers, nil, nil)
	faults.Check(err == nil, "oidc_issuers: %w", err)
	faults.Check(c.BreakGlassMax >= time.Second && c.BreakGlassMax <= maxBreakGlass, "break_glass_max: %s: want 1s to %s", c.BreakGlassMax, maxBreakGlass)
}

// identities are those who call the admin API, and how tenants' databases are opened to them.
type identities struct {
	desk       *identity.Desk
	breakGlass *breakglass.Service
}

func (s *Server) newIdentities(fleet *shard.Fleet) (*identities, error) {
	tokens, err := adminapi.OpenTokens(s.cfg.TokensFile, s.log)
	if err != nil {
		return nil, err
	}
	secure, err := clienttls.Load(clienttls.Files{CA: s.cfg.OIDCCAFile, System: true})
	if err != nil {
		return nil, fmt.Errorf("oidc_ca_file: %w", err)
	}
	people, err := identity.NewPeople(s.cfg.OIDCIssuers, secure, s.log)
	if err != nil {
		return nil, fmt.Errorf("oidc_issuers: %w", err)
	}
	return &identities{
		desk: identity.New(s.store, tokens, people, s.log),
		breakGlass: breakglass.New(s.store, breakglass.AtShards(fleet), breakglass.Options{Max: s.cfg.BreakGlassMax,
			Approval: s.cfg.BreakGlassApproval, Reason: s.cfg.BreakGlassReason, Logger: s.log}),
	}, nil
}

func (i *identities) run(ctx context.Context, s *Server) {
	s.run(ctx, "break-glass", i.breakGlass.Run)
	if people := i.desk.People(); people != nil {
		s.run(ctx, "issuers' keys", people.Run)
	}
}
