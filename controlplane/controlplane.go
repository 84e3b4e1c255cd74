package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/clone"
	"github.com/freehold-db/freehold/controlplane/doctor"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/rebalance"
	"github.com/freehold-db/freehold/controlplane/rotation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/usage"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/secretstore"
	"github.com/freehold-db/freehold/internal/servertls"
	"github.com/freehold-db/freehold/internal/telemetry"
	"github.com/freehold-db/freehold/shardmap"
)

// Server is a running replica. It is stopped once with Stop; stopping again does nothing.
type Server struct {
	cfg  Config
	log  *slog.Logger
	url  string
	http *http.Server

	end  context.CancelFunc // of what runs in the background
	side sync.WaitGroup
	done chan error

	store *catalog.Store
	audit *audit.Log
	nats  *nats.Conn
	// natsAudit adds to the audit log's stream; the same as nats unless there is a key for it.
	natsAudit *nats.Conn

	secrets *secretstore.Opened

	stopOnce sync.Once
	stopErr  error
}

// startFor bounds a start above what its context says: migrations wait for other replicas'.
const startFor = 2 * time.Minute

// Start migrates and opens the databases, brings up a replica, and returns when
// its admin API listens. ctx bounds the start alone. NATS may be away: what is
// published waits for it. It fails on a bad configuration, when catalog or
// audit database can't be reached, or when the port is taken.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	s := &Server{cfg: cfg, log: log.With("part", "controlplane"), done: make(chan error, 1), end: func() {}}
	ctx, cancel := context.WithTimeout(ctx, startFor)
	defer cancel()
	if err := s.assemble(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("control plane: %w", err)
	}
	return s, nil
}

func (s *Server) assemble(ctx context.Context) error {
	if err := s.openSecrets(ctx); err != nil { // first, for they may give us our certificates
		return err
	}
	secrets := s.secrets
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.recordEmbedded(ctx); err != nil {
		return err
	}
	bin, err := clientPrograms(s.cfg.PGBinDir)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return err
	}
	s.url = "http://" + listener.Addr().String()
	var secure *servertls.Certificate // nil: plain HTTP
	if s.cfg.TLSCertFile != "" {
		s.url = "https://" + listener.Addr().String()
		files := servertls.Files{Certificate: s.cfg.TLSCertFile, Key: s.cfg.TLSKeyFile, ClientCA: s.cfg.TLSClientCAFile}
		if secure, err = servertls.Load(files, tls.VersionTLS12, []string{"http/1.1"}, s.log); err != nil {
			return errors.Join(err, listener.Close())
		}
		listener = tls.NewListener(listener, secure.Config())
	}

	registry := telemetry.NewRegistry()
	registry.MustRegister(&figures{store: s.store, log: s.log}, usage.NewCollector(s.store))
	engine := operation.New(s.store, operation.Options{Worker: s.cfg.Name, LeaseFor: s.cfg.LeaseFor, Workers: s.cfg.Workers,
		Registry: registry, Logger: s.log})
	channel, err := s.cfg.DatabaseTLS.Open(s.log)
	if err != nil {
		return err
	}
	fleet := shard.New(s.store, secrets, channel)
	who, err := s.newIdentities(fleet)
	if err != nil {
		return err
	}
	auditing, err := s.newAuditing(ctx, secrets, fleet, registry)
	if err != nil {
		return err
	}
	publisher := publish.New(s.store, s.nats, publish.Options{Replicas: s.cfg.NATSReplicas, Logger: s.log})
	tenants := provision.New(s.store, engine, fleet, secrets, provision.Options{
		MigrationsDir: s.cfg.MigrationsDir, WarmPool: s.cfg.WarmPool, DeleteGrace: s.cfg.DeleteGrace, Logger: s.log,
		Limits: shard.Limits{Connections: s.cfg.TenantConnections, StatementTimeout: s.cfg.StatementTimeout, IdleInTx: s.cfg.IdleInTxTimeout, TempFilesMB: s.cfg.TempFilesMB},
	})
	bearable := pace.Bounds{Active: s.cfg.MoveMaxActive, Lag: int64(s.cfg.MoveMaxLagMB) << 20}
	moves := move.New(s.store, engine, fleet, publisher, move.Options{PGBinDir: bin, Grace: s.cfg.MoveGrace,
		Bearable: bearable, SoakMaxWAL: int64(s.cfg.SoakMaxWALMB) << 20, Logger: s.log,
		Suits: func(ctx context.Context, tx pgx.Tx, tenant shardmap.TenantID, to shardmap.ShardID) error {
			return placement.MayMove(ctx, s.store, tx, tenant, to)
		}})
	tenantAccess := access.New(s.store, engine, fleet, s.log)
	clones := clone.New(s.store, engine, fleet, tenants, tenantAccess, clone.Options{PGBinDir: bin, Bearable: bearable, Logger: s.log})
	held, erasures := s.newCopies(engine, fleet, tenants, tenantAccess, auditing, bin, bearable)
	balancing := rebalance.New(s.store, engine, moves, rebalance.Options{
		Bearable: usage.Bounds{Bounds: bearable, P95: s.cfg.RebalanceMaxP95}, Registry: registry, Logger: s.log})
	credentials := rotation.New(s.store, engine, fleet, secrets, publisher, rotation.Options{Every: s.cfg.RotateEvery, Registry: registry, Logger: s.log})
	s.http = adminapi.New(adminapi.Deps{
		Catalog: s.store, Operations: engine, Tenants: tenants, Shards: tenants, Moves: moves, Clones: clones, Copies: held, Erasures: erasures, Upgrades: moves, Soaks: moves, Verifications: moves, Secrets: credentials, Doctor: doctor.New(s.store, fleet, secrets, s.expected(channel, auditing)), Access: tenantAccess, Rebalance: balancing, Audit: s.audit, Anchors: auditing.keeper, Sources: audit.SourceOf(s.store), Outbox: auditing.outbox,
		Callers: who.desk, Identities: who.desk, BreakGlass: who.breakGlass, Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), Registry: registry, Log: s.log,
	}).Server()

	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end
	s.run(life, "publishing", publisher.Run)
	auditing.run(life, s)
	who.run(life, s)
	s.run(life, "operations", engine.Run)
	s.run(life, "provisioning", tenants.Run)
	s.run(life, "soaks", moves.Run)
	s.run(life, "copies", held.Run)
	s.run(life, "rebalancing", balancing.Run)
	s.run(life, "access", tenantAccess.Run)
	s.run(life, "rotation", credentials.Run)
	if s.cfg.MeasureEvery > 0 {
		s.run(life, "measuring", usage.New(s.store, fleet, s.nats, usage.Options{Keeper: s.cfg.Name, Every: s.cfg.MeasureEvery, Logger: s.log}).Run)
	}
	if secure != nil {
		s.run(life, "certificate", func(ctx context.Context) error { secure.Run(ctx); return nil })
	}
	go func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("admin API: %w", err))
		}
	}()
	s.log.Info("control plane listens", "url", s.url, "replica", s.cfg.Name)
	return nil
}

// warnExposed tells of databases of our own that a network could listen to.
func (s *Server) warnExposed() {
	for name, dsn := range map[string]string{"catalog_dsn": s.cfg.CatalogDSN, "audit_dsn": s.cfg.AuditDSN, "audit_owner_dsn": s.cfg.AuditOwnerDSN} {
		if dsn == "" {
			continue
		}
		if how, err := pg.Exposed(dsn); err == nil && how != "" {
			s.log.Warn("the link to a database is not secured", "setting", name, "how", how)
		}
	}
}

// open connects to the catalog, the audit database and NATS.
func (s *Server) open(ctx context.Context) (err error) {
	s.warnExposed()
	if err := catalog.Migrate(ctx, s.cfg.CatalogDSN); err != nil {
		return err
	}
	if s.store, err = catalog.Open(ctx, s.cfg.CatalogDSN); err != nil {
		return err
	}
	if err := s.openAudit(ctx); err != nil {
		return err
	}
	if s.nats, err = natslink.Connect(s.cfg.nats(), natsrole.ControlPlane(), "freehold-controlplane "+s.cfg.Name, s.log,
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.log.Warn("NATS is away", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { s.log.Info("NATS is back") }),
	); err != nil {
		return err
	}
	s.natsAudit = s.nats
	if s.cfg.NATSAuditSeedFile != "" {
		link := s.cfg.nats()
		link.SeedFile = s.cfg.NATSAuditSeedFile
		s.natsAudit, err = natslink.Connect(link, natsrole.Auditor(), "freehold-auditor "+s.cfg.Name, s.log)
	}
	return err
}

// clientPrograms finds the directories of pg_dump and pg_restore, as a PATH.
func clientPrograms(dirs string) (string, error) {
	if dirs == "" {
		found := pgserver.ClientDirs()
		if len(found) == 0 {
			return "", errors.New("pg_dump is not installed; install Postgres' client programs or set pg_bin_dir")
		}
		return strings.Join(found, string(os.PathListSeparator)), nil
	}
	for _, dir := range filepath.SplitList(dirs) {
		for _, name := range []string{"pg_dump", "pg_restore"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				return "", fmt.Errorf("pg_bin_dir: %w", err)
			}
		}
	}
	return dirs, nil
}

// run runs a part until ctx ends. None ends before that without being broken.
func (s *Server) run(ctx context.Context, name string, part func(context.Context) error) {
	s.side.Go(func() {
		err := part(ctx)
		if ctx.Err() == nil {
			s.fail(fmt.Errorf("%s ended: %w", name, err))
		}
	})
}

// fail reports the first thing that ended by itself.
func (s *Server) fail(err error) {
	s.log.Error("control plane is broken", "error", err)
	select {
	case s.done <- err:
	default:
	}
}

// URL is where the admin API answers.
func (s *Server) URL() string { return s.url }

// Done gets an error when a part of the replica ended by itself: it should be
// stopped and started anew.
func (s *Server) Done() <-chan error { return s.done }

// Stop ends the replica: the API answers what is under way, then workers stop
// their steps and give their leases back, so that another replica goes on at
// once. Everything is closed when it returns. When ctx ends first, requests are
// cut off and what still runs a few seconds later is left behind, with an error.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Server) stop(ctx context.Context) error {
	var err error
	if down := s.http.Shutdown(ctx); down != nil {
		err = errors.Join(fmt.Errorf("requests were cut off: %w", down), s.http.Close())
	}
	s.end()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.side.Wait() // each part bounds its own way out
		s.close()
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		// Parts on their way out need a moment; one that hangs must not keep the process.
		select {
		case <-gone:
		case <-time.After(lastWait):
			err = errors.Join(err, fmt.Errorf("control plane: parts of it still run: %w", ctx.Err()))
		}
	}
	s.log.Info("control plane stopped", "replica", s.cfg.Name, "error", err)
	return err
}

// lastWait is what Stop gives the parts beyond its caller's time.
const lastWait = 5 * time.Second

func (s *Server) close() {
	s.end()
	if s.nats != nil {
		s.nats.Close()
	}
	if s.natsAudit != nil {
		s.natsAudit.Close()
	}
	if s.secrets != nil {
		s.secrets.Close()
	}
	if s.audit != nil {
		s.audit.Close()
	}
	if s.store != nil {
		s.store.Close()
	}
}
