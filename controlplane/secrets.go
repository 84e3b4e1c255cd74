package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/secretstore"
)

// askAgain is the time between two looks whether the secret store is there.
const askAgain = 500 * time.Millisecond

// secrets is which store the configuration names.
func (c *Config) secrets() *secretstore.Named {
	return &secretstore.Named{Store: c.SecretStore, SecretsDir: c.SecretsDir, Environment: c.Environment, EmbeddedSecrets: c.EmbeddedSecrets, Vault: c.Vault}
}

// openSecrets opens the secret store and returns when it answers: without it a
// replica can do nothing.
func (s *Server) openSecrets(ctx context.Context) (err error) {
	if s.secrets, err = s.cfg.secrets().Open(ctx, s.log); err != nil {
		return err
	}
	return s.awaitSecrets(ctx)
}

// recordEmbedded puts on record that the embedded store serves in production, if it does.
func (s *Server) recordEmbedded(ctx context.Context) error {
	if !s.cfg.secrets().Overridden() {
		return nil
	}
	s.log.Warn("production with the embedded secret store: the master keys lie beside what they seal", "secrets_dir", s.cfg.SecretsDir)
	details, err := json.Marshal(map[string]string{"environment": s.cfg.Environment, "secret_store": s.cfg.SecretStore})
	if err != nil {
		return err
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: catalog.Actor{Name: "system"}, Action: "secrets.embedded",
			Object: "controlplane/" + s.cfg.Name, Outcome: "accepted", Details: details})
	})
}

func (s *Server) awaitSecrets(ctx context.Context) error {
	for said := false; ; {
		_, _, err := s.secrets.Get(ctx, s.cfg.AuditSigningKey)
		if err == nil || errors.Is(err, secret.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, secret.ErrUnavailable) {
			return err
		}
		if !said {
			s.log.Warn("waiting for the secret store", "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(askAgain):
		}
	}
}
