// Package rotation changes the passwords of logins while they are used: of the
// logins to tenants' databases, by turns and without a failed request, and of
// shards' admin logins. It also takes a credential that leaked away at once.
//
// A tenant's secret names one turn of its database's logins. A rotation lets the
// other turn in, writes the secret, tells the nodes, and closes the turn of
// before when they have gone over, or, to nodes that could not be told, when they
// had their time: those are refused then, read the secret again, and go on.
//
// No password is in a document, an error or an audit record.
//
// Import law: of this module, rotation imports shardmap, internal packages, and
// controlplane/catalog, operation, publish and shard.
package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Kinds of operations.
const (
	KindRotate = "secret-rotate"       // a tenant's logins
	KindRevoke = "secret-revoke"       // the same, at once
	KindShard  = "secret-rotate-shard" // a shard's admin login
	KindKill   = "secret-revoke-shard" // the same, at once
	KindAll    = "secret-rotate-all"   // all of these, one after the other
)

// Nodes tells the data-plane nodes (*publish.Publisher).
type Nodes interface {
	Renew(ctx context.Context, tenant shardmap.TenantID, generation int64, wait time.Duration) (publish.Renewed, error)
}

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	Every time.Duration // how old a credential gets before it is rotated [never]
	// TellFor is how long nodes are told before the old turn is closed without
	// their word [10 s]; TroubleFor how long one is waited for that answers, but
	// can't go over, or not yet [5 min].
	TellFor, TroubleFor time.Duration
	SettleFor           time.Duration         // the least that is given to who read a shard's login a moment ago [5 s]
	LookEvery           time.Duration         // how often the keeper looks for what is due [1 min]
	Registry            prometheus.Registerer // gets the ages [none are shown]
	Logger              *slog.Logger          // [slog.Default()]
}

// Service is one replica's. Any number may run on one catalog. All methods are safe for concurrent use.
type Service struct {
	store   *catalog.Store
	engine  *operation.Engine
	fleet   *shard.Fleet
	secrets secret.Store
	nodes   Nodes
	opt     Options
	log     *slog.Logger
	oldest  *prometheus.GaugeVec
}

// New makes the service and registers its kinds with the engine.
func New(store *catalog.Store, engine *operation.Engine, fleet *shard.Fleet, secrets secret.Store, nodes Nodes, opt Options) *Service {
	for _, d := range []struct {
		of *time.Duration
		is time.Duration
	}{{&opt.TellFor, 10 * time.Second}, {&opt.TroubleFor, 5 * time.Minute}, {&opt.SettleFor, 5 * time.Second}, {&opt.LookEvery, time.Minute}} {
		if *d.of <= 0 {
			*d.of = d.is
		}
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	s := &Service{store: store, engine: engine, fleet: fleet, secrets: secrets, nodes: nodes, opt: opt, log: opt.Logger,
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "freehold_credential_oldest_seconds",
			Help: "Age of the oldest credential of a kind."}, []string{"kind"})}
	if opt.Registry != nil {
		opt.Registry.MustRegister(s.oldest)
	}
	operation.Register(engine, s.rotateKind())
	operation.Register(engine, s.revokeKind())
	operation.Register(engine, s.shardKind())
	operation.Register(engine, s.killKind())
	operation.Register(engine, s.allKind())
	return s
}

// record writes an audit record in the transaction of what it tells of.
func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action, object string, tenant shardmap.TenantID, outcome string, details any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit record %s: %w", action, err)
	}
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: object, Tenant: tenant, Outcome: outcome, Details: text})
}

// begin starts an operation about object, if fits does not refuse it, and
// records who asked for it. fits runs with the operation in place.
func (s *Service) begin(ctx context.Context, spec operation.Spec, action, object string, fits func(context.Context, pgx.Tx) error) (op *operation.Operation, err error) {
	if spec.RequestKey != "" { // a repeated request is answered as the first was
		if _, err := s.engine.FindRequest(ctx, spec.Actor.Name, spec.RequestKey); err == nil {
			return s.engine.Start(ctx, spec)
		} else if !errors.Is(err, catalog.ErrNotFound) {
			return nil, err
		}
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		op, err = s.beginTx(ctx, tx, spec, action, object, fits)
		return err
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

func (s *Service) beginTx(ctx context.Context, tx pgx.Tx, spec operation.Spec, action, object string, fits func(context.Context, pgx.Tx) error) (*operation.Operation, error) {
	if err := fits(ctx, tx); err != nil {
		return nil, err
	}
	op, err := s.engine.StartTx(ctx, tx, spec)
	if err != nil {
		return nil, err
	}
	return op, s.record(ctx, tx, spec.Actor, action, object, spec.Tenant, "accepted", map[string]string{"operation": op.ID})
}

// system acts where nobody asked.
func system(reason string) catalog.Actor {
	return catalog.Actor{Name: "system", Role: "system", Reason: reason}
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}
