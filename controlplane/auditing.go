package controlplane

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/doctor"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/access"
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
	outbox *audit.Outbox
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
	stream, err := anchor.NewStream(s.natsAudit, anchor.StreamOptions{Replicas: s.cfg.NATSReplicas, Registry: registry, Logger: s.log,
		Bounds: access.AuditLogBounds{Keep: s.cfg.AuditStreamKeep, MaxBytes: int64(s.cfg.AuditStreamMaxMB) << 20}})
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
	outbox := audit.NewOutbox(s.store, s.audit, s.cfg.AuditOutboxMax)
	registry.MustRegister(&waiting{outbox})
	return &auditing{stream: stream, outbox: outbox,
		keeper: anchor.New(s.audit, signer, places, anchor.Options{Every: s.cfg.AuditCheckpointEvery, Registry: registry, Logger: s.log})}, nil
}

// run starts the parts.
func (a *auditing) run(life context.Context, s *Server) {
	s.run(life, "audit relay", func(ctx context.Context) error { return audit.Relay(ctx, s.store, s.audit, s.log) })
	s.run(life, "audit events", func(ctx context.Context) error {
		return audit.Events(ctx, s.store, s.nats, audit.EventsOptions{Replicas: s.cfg.NATSReplicas, Logger: s.log, Room: a.outbox.RoomForRefusals})
	})
	s.run(life, "audit checkpoints", a.keeper.Run)
	s.run(life, "audit stream", func(ctx context.Context) error { return a.stream.Run(ctx, s.audit) })
}

// state is what the doctor looks at.
func (a *auditing) state(ctx context.Context) doctor.Audit {
	b, err := a.outbox.Look(ctx)
	d := doctor.Audit{Err: err, Waiting: b.Records, Max: b.Max, Oldest: b.Oldest, Why: b.Why}
	if a.stream.State() == nil { // this replica was started a moment ago, or NATS is away
		_ = a.stream.Look(ctx) // the doctor says that nobody has seen it
	}
	if now := a.stream.State(); now != nil {
		d.StreamSeen, d.StreamBytes, d.StreamMax, d.StreamNearlyFull = true, now.Bytes, now.MaxBytes, now.NearlyFull()
	}
	return d
}

var (
	outboxRecords = prometheus.NewDesc("freehold_audit_outbox_records", "Records that wait to be in the audit log, counted up to one more than the bound.", nil, nil)
	outboxMax     = prometheus.NewDesc("freehold_audit_outbox_max_records", "Waiting records from which on changes are refused.", nil, nil)
	relayTrouble  = prometheus.NewDesc("freehold_audit_relay_trouble", "1 for what keeps this replica from carrying records into the audit log.", []string{"why"}, nil)
)

// waiting shows the outbox at /metrics.
type waiting struct{ outbox *audit.Outbox }

// Describe implements prometheus.Collector.
func (w *waiting) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{outboxRecords, outboxMax, relayTrouble} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (w *waiting) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), figuresFor)
	defer cancel()
	b, err := w.outbox.Look(ctx)
	for why, broken := range map[string]bool{"away": b.Why == "away", "diverged": b.Why == "diverged", "tampered": b.Why == "tampered"} {
		is := 0.0
		if broken {
			is = 1
		}
		ch <- prometheus.MustNewConstMetric(relayTrouble, prometheus.GaugeValue, is, why)
	}
	if err != nil {
		return // freehold_catalog_up is 0
	}
	ch <- prometheus.MustNewConstMetric(outboxRecords, prometheus.GaugeValue, float64(b.Records))
	ch <- prometheus.MustNewConstMetric(outboxMax, prometheus.GaugeValue, float64(b.Max))
}
