package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	startFor = 2 * time.Minute  // the whole fleet, crash recovery of every server included
	stopFor  = 45 * time.Second // the whole fleet, when the caller gives no bound
)

// Fleet is a running fleet. Its methods are safe for concurrent use; one thing
// at a time is done to each part.
type Fleet struct {
	opts    Options
	dir     layout
	hold    *hold
	state   *state
	secrets secret.Store

	catalogLogin, auditOwner, auditLogin, lookup, adminToken, nodeToken secret.Login

	authority    *pki.Authority // nil: without TLS
	operator     pki.Pair       // what who uses the fleet shows
	endAuthority func()         // nil: nothing is renewed

	catalog       *postgresPart
	migrationsDir string
	jwksURL       atomic.Value // string

	parts   sync.RWMutex // guards what there is, which grows
	shards  []*shardUnit
	members map[string]*member
	names   []string // in the order of starting

	mu   sync.Mutex
	logs []*os.File
}

// Start brings up the fleet of opts.Dir, resuming what was there, and returns
// when it serves. What an earlier run left behind is cleaned up first. ctx
// bounds the start alone. It fails with [ErrRunning] if a fleet is up in the
// directory; after any failure nothing of it runs.
func Start(ctx context.Context, opts Options) (*Fleet, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startFor)
	defer cancel()
	f := &Fleet{opts: opts, dir: layout(opts.Dir), members: map[string]*member{}}
	if err := f.dir.create(); err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	var err error
	if f.hold, err = acquire(f.dir); err != nil {
		return nil, err
	}
	if err := f.up(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopFor)
		defer cancel()
		return nil, errors.Join(err, f.Stop(stopCtx))
	}
	return f, nil
}

func (f *Fleet) up(ctx context.Context) error {
	if err := removeFile(f.dir.info()); err != nil { // a killed fleet's, until ours is true
		return err
	}
	if err := f.prepare(ctx); err != nil {
		return err
	}
	if err := f.evict(ctx); err != nil {
		return err
	}
	f.opts.Progress(fmt.Sprintf("starting Postgres for the catalog and %d shards, PgBouncer, NATS, token issuer", len(f.shards)))
	first := [][]string{{catalogPart}, {issuerPart}}
	if f.opts.ExternalNATS == "" {
		first = append(first, []string{natsPart})
	}
	for _, u := range f.shards {
		first = append(first, []string{u.postgres.name, u.bouncer.name})
	}
	if err := f.startAll(ctx, first...); err != nil {
		return err
	}
	f.opts.Progress("starting the control plane")
	if err := f.startAll(ctx, f.controlPlanes()); err != nil { // one after the other: the first migrates the catalog
		return err
	}
	f.opts.Progress("registering shards, starting data-plane nodes")
	g, gctx := errgroup.WithContext(ctx)
	for _, u := range f.shards {
		g.Go(func() error { return f.register(gctx, u) })
	}
	g.Go(func() error { return f.startAll(gctx, each(f.nodes())...) })
	if err := g.Wait(); err != nil {
		return err
	}
	return f.writeInfo()
}

// Names of the parts that are not Postgres or PgBouncer.
const (
	natsPart         = "nats"
	issuerPart       = "issuer"
	controlPlanePart = "controlplane"
	nodePrefix       = "dataplane-"
	opsSuffix        = "-ops" // of a node's second port
	selfName         = "dev"
)

func each(names []string) [][]string {
	chains := make([][]string, len(names))
	for i, n := range names {
		chains[i] = []string{n}
	}
	return chains
}

// controlPlanes names the replicas of the control plane.
func (f *Fleet) controlPlanes() []string {
	names := []string{controlPlanePart}
	for i := range f.opts.ControlPlanes - 1 {
		names = append(names, fmt.Sprintf("%s-%d", controlPlanePart, i+2))
	}
	return names
}

func (f *Fleet) nodes() []string {
	names := make([]string, f.state.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", nodePrefix, i+1)
	}
	return names
}

// prepare reads what the fleet remembers and makes its parts; nothing runs yet.
func (f *Fleet) prepare(ctx context.Context) error {
	var err error
	if f.state, err = loadState(f.dir); err != nil {
		return err
	}
	if err := f.state.settle(f.opts); err != nil {
		return err
	}
	if err := f.openAuthority(); err != nil {
		return err
	}
	if err := f.openSecrets(ctx); err != nil {
		return err
	}
	if f.migrationsDir = f.opts.Migrations; f.migrationsDir == "" {
		if f.migrationsDir, err = f.sampleSchema(); err != nil {
			return err
		}
	}
	if f.catalog, err = f.newCatalog(ctx); err != nil {
		return err
	}
	f.add(catalogPart, f.catalog)
	for _, id := range f.state.shardIDs() {
		u, err := f.newShard(ctx, shardmap.ShardID(id))
		if err != nil {
			return err
		}
		f.addShard(u)
	}
	if f.opts.ExternalNATS == "" {
		f.add(natsPart, f.newNATS())
	}
	f.add(issuerPart, f.newIssuer())
	for _, n := range f.controlPlanes() {
		f.add(n, f.newControlPlane(n))
	}
	for _, n := range f.nodes() {
		f.add(n, f.newNode(n))
	}
	return nil
}

func (f *Fleet) add(name string, p part) {
	f.parts.Lock()
	defer f.parts.Unlock()
	f.members[name] = &member{name: name, part: p}
	f.names = append(f.names, name)
}

// startAll starts chains of parts side by side, the parts of a chain one after the other.
func (f *Fleet) startAll(ctx context.Context, chains ...[]string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, chain := range chains {
		g.Go(func() error {
			for _, name := range chain {
				m, err := f.member(name)
				if err != nil {
					return err
				}
				if err := f.startOne(ctx, m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (f *Fleet) startOne(ctx context.Context, m *member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.start(ctx); err != nil {
		return fmt.Errorf("%s: %w (log: %s)", m.name, err, f.dir.log(m.name))
	}
	return nil
}

// Stop stops every part, those last that others lean on, and gives the
// directory free. Stopping twice is no error.
func (f *Fleet) Stop(ctx context.Context) error {
	err := removeFile(f.dir.info())
	if f.endAuthority != nil {
		f.endAuthority()
		f.endAuthority = nil
	}
	for _, group := range f.stopOrder() {
		g := new(errgroup.Group)
		for _, m := range group {
			g.Go(func() error {
				m.mu.Lock()
				defer m.mu.Unlock()
				if err := m.stop(ctx); err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
				return nil
			})
		}
		err = errors.Join(err, g.Wait())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.logs {
		err = errors.Join(err, l.Close())
	}
	f.logs = nil
	if f.hold != nil {
		f.hold.release()
		f.hold = nil
	}
	return err
}

func (f *Fleet) stopOrder() [][]*member {
	var order [5][]*member
	f.parts.RLock()
	defer f.parts.RUnlock()
	for _, name := range f.names {
		at := 3 // Postgres, NATS, issuer
		switch {
		case hasPrefix(name, nodePrefix):
			at = 0
		case hasPrefix(name, controlPlanePart):
			at = 1
		case hasPrefix(name, bouncerPrefix):
			at = 2
		}
		order[at] = append(order[at], f.members[name])
	}
	return order[:]
}

// Names lists the parts in the order in which they are started.
func (f *Fleet) Names() []string {
	f.parts.RLock()
	defer f.parts.RUnlock()
	return append([]string(nil), f.names...)
}

func (f *Fleet) member(name string) (*member, error) {
	f.parts.RLock()
	m := f.members[name]
	f.parts.RUnlock()
	if m == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoPart, name)
	}
	return m, nil
}

// Kill ends one part as kill -9 does: for tests of what then happens. A
// Postgres's own sessions end by themselves shortly after. It fails with
// [ErrInProcess] for a part that shares our process.
func (f *Fleet) Kill(name string) error {
	m, err := f.member(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.kill(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.writeInfo()
}

// Halt stops one part as an operator would.
func (f *Fleet) Halt(ctx context.Context, name string) error {
	m, err := f.member(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.stop(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.writeInfo()
}

// Launch starts one part again, where it was, after Kill, Halt or its own
// death, and returns when it serves. env ("NAME=value") is added to the
// environment of a part that runs as tenant-ops process, for this start only.
func (f *Fleet) Launch(ctx context.Context, name string, env ...string) error {
	m, err := f.member(name)
	if err != nil {
		return err
	}
	if len(env) > 0 {
		if err := m.withEnv(env); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := f.startOne(ctx, m); err != nil {
		return err
	}
	return f.writeInfo()
}

// Ended is closed when the named part has died or was stopped; nil for a part
// that shares our process.
func (f *Fleet) Ended(name string) <-chan struct{} {
	m, err := f.member(name)
	if err != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended()
}

// Info says how to reach every part.
func (f *Fleet) Info() Info {
	info := f.tlsInfo()
	info.AdminURL, info.AdminURLs, info.AdminToken = f.adminURL(), f.adminURLs(), f.adminToken.Password
	info.IssuerURL, info.NATSURL, info.CatalogDSN = f.issuerURL(), f.natsURL(), f.catalogDSN()
	info.PIDs = map[string]int{selfName: os.Getpid()}
	for _, n := range f.nodes() {
		info.DataplaneURLs = append(info.DataplaneURLs, f.urlOf(n))
		info.OpsURLs = append(info.OpsURLs, f.urlOf(n+opsSuffix))
	}
	f.parts.RLock()
	defer f.parts.RUnlock()
	for _, u := range f.shards {
		info.Shards = append(info.Shards, ShardInfo{ID: u.id,
			PostgresDSN:       u.postgres.server.DSN("postgres"),
			PgbouncerDSN:      u.bouncer.server.DSN(u.admin, "postgres"),
			PgbouncerAdminDSN: u.bouncer.server.AdminDSN()})
	}
	for _, n := range f.names {
		if pid := f.members[n].pid(); pid != 0 {
			info.PIDs[n] = pid
		}
	}
	return info
}

// Dir is the fleet's directory.
func (f *Fleet) Dir() string { return string(f.dir) }

func (f *Fleet) writeInfo() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hold == nil {
		return nil // stopped meanwhile
	}
	return writeJSON(f.dir.info(), f.Info())
}

func (f *Fleet) urlOf(name string) string {
	return f.state.scheme() + "://" + loopback(f.state.port(name))
}
func (f *Fleet) adminURL() string { return f.urlOf(controlPlanePart) }
func (f *Fleet) adminURLs() (urls []string) {
	for _, n := range f.controlPlanes() {
		urls = append(urls, f.urlOf(n))
	}
	return urls
}
func (f *Fleet) issuerURL() string  { return f.urlOf(issuerPart) }
func (f *Fleet) catalogDSN() string { return f.onCatalog(f.catalogLogin) }
func (f *Fleet) auditDSN() string   { return f.catalog.server.LoginDSN(f.auditLogin, auditDatabase) }

// auditOwnerDSN is for the first replica, which migrates; the others can only add records.
func (f *Fleet) auditOwnerDSN(name string) string {
	if name != controlPlanePart {
		return ""
	}
	return f.onCatalog(f.auditOwner)
}

// onCatalog is a DSN to the database that has its owner's name.
func (f *Fleet) onCatalog(l secret.Login) string {
	return f.catalog.server.LoginDSN(l, l.User)
}
