package controlplane

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
)

// openAudit opens the audit database with the login that can only add to it,
// after the owner, if we have it, has migrated it.
func (s *Server) openAudit(ctx context.Context) error {
	log, powers, err := audit.OpenAs(ctx, s.cfg.AuditDSN, s.cfg.AuditOwnerDSN)
	if err != nil {
		return err
	}
	if s.audit = log; powers.Owner {
		s.log.Warn("the login of audit_dsn owns the audit database and could take away what makes it append-only: " +
			"give it a member of " + audit.WriterRole + ", and the owner to audit_owner_dsn")
	}
	return nil
}

// auditing is what holds the audit log to what it was.
type auditing struct {
	keeper *anchor.Keeper
	stream *anchor.Stream
}

func (s *Server) newAuditing(ctx context.Context, secrets secret.Store, fleet *shard.Fleet, registry prometheus.Registerer) (*auditing, error) {
	key, err := secret.SigningKey(ctx, secrets, s.cfg.AuditSigningKey)
	if err != nil {
		return nil, fmt.Errorf("audit_signing_key: %w", err)
	}
	origin, err := s.audit.Origin(ctx)
	if err != nil {
		return nil, err
	}
	signer, err := proof.NewSigner(origin, key)
	if err != nil {
		return nil, err
	}
	stream, err := anchor.NewStream(s.natsAudit, s.cfg.NATSReplicas, s.log)
	if err != nil {
		return nil, err
	}
	places := func(ctx context.Context) ([]anchor.Place, error) {
		all := []anchor.Place{stream}
		if s.cfg.AuditAnchorDir != "" {
			all = append(all, anchor.Directory(s.cfg.AuditAnchorDir))
		}
		shards, err := s.store.ListShards(ctx)
		for _, sh := range shards {
			all = append(all, anchor.Shard(fleet, sh.ID))
		}
		return all, err
	}
	return &auditing{stream: stream,
		keeper: anchor.New(s.audit, signer, places, anchor.Options{Every: s.cfg.AuditCheckpointEvery, Registry: registry, Logger: s.log})}, nil
}

// run starts the parts.
func (a *auditing) run(life context.Context, s *Server) {
	s.run(life, "audit relay", func(ctx context.Context) error { return audit.Relay(ctx, s.store, s.audit, s.log) })
	s.run(life, "audit events", func(ctx context.Context) error {
		return audit.Events(ctx, s.store, s.nats, audit.EventsOptions{Replicas: s.cfg.NATSReplicas, Logger: s.log})
	})
	s.run(life, "audit checkpoints", a.keeper.Run)
	s.run(life, "audit stream", func(ctx context.Context) error { return a.stream.Run(ctx, s.audit) })
}
