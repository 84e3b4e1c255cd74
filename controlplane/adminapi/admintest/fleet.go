package admintest

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/breakglass"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/rebalance"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/shardmap"
)

// Fleet is an admin API on a catalog of its own, with shards s1 and s2.
type Fleet struct {
	t      testing.TB
	URL    string
	Store  *catalog.Store
	Domain *Domain
	Access *access.Service
	// Audit is the audit log; it is made when it is needed first.
	Audit *lazyLog
	// Rebalance plans for the fleet; its moves are the Domain's.
	Rebalance *rebalance.Service
	API       *adminapi.API
	// Identities knows tokens and people; BreakGlass makes Logins, which are nobody's.
	Identities *identity.Desk
	BreakGlass *breakglass.Service
	Logins     *Logins
	// Log is what the API and the engine logged.
	Log *Log
	// Stop ends the server; the engine goes on.
	Stop func()
	// TokensFile lists one token for each role: Token(role).
	TokensFile string
}

// Roles are those that have a token.
var Roles = []adminapi.Role{adminapi.RoleViewer, adminapi.RoleOperator, adminapi.RoleAdmin, adminapi.RoleNode}

// Token is the role's.
func Token(r adminapi.Role) string { return string(r) + "-token" }

// WriteTokens replaces the file of tokens.
func WriteTokens(t testing.TB, path string, roles ...adminapi.Role) {
	var list []map[string]string
	for _, r := range roles {
		list = append(list, map[string]string{"name": "the-" + string(r), "role": string(r), "sha256": adminapi.HashToken(Token(r))})
	}
	text, err := json.Marshal(list)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", text, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// Options say what is not as every fleet has it.
type Options struct {
	// Issuers are where people sign in.
	Issuers []identity.Issuer
	// BreakGlass says how tenants' databases are opened to people.
	BreakGlass breakglass.Options
	// OutboxMax bounds the records that wait for the audit log; 0: nothing does.
	OutboxMax int64
}

// Start brings a fleet up on an empty, migrated catalog; it ends with the test.
func Start(t testing.TB, store *catalog.Store) *Fleet { return StartWith(t, store, Options{}) }

// StartWith is Start with options.
func StartWith(t testing.TB, store *catalog.Store, opt Options) *Fleet {
	f := &Fleet{t: t, Store: store, Log: &Log{}, TokensFile: filepath.Join(t.TempDir(), "tokens.json")}
	f.Audit = &lazyLog{t: t, store: store}
	log := slog.New(slog.NewTextHandler(f.Log, nil))
	f.Domain = newDomain(store, operation.Options{LeaseFor: 2 * time.Second, Worker: "w1", Logger: log})
	f.Domain.registerRunMoves()
	held := newCopies(f.Domain)
	f.Access = access.New(store, f.Domain.engine, f.Domain, log)
	f.Rebalance = rebalance.New(store, f.Domain.engine, f.Domain, rebalance.Options{Logger: log})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- f.Domain.engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ran)
	})
	WriteTokens(t, f.TokensFile, Roles...)
	tokens, err := adminapi.OpenTokens(f.TokensFile, log)
	require.NoError(t, err)
	people, err := identity.NewPeople(opt.Issuers, nil, log)
	require.NoError(t, err)
	f.Identities = identity.New(store, tokens, people, log)
	if people != nil {
		background(t, people.Run)
	}
	f.Logins = &Logins{logins: map[string]shardmap.ShardID{}, used: map[string]bool{}}
	opt.BreakGlass.Logger = log
	if opt.BreakGlass.Every == 0 {
		opt.BreakGlass.Every = 250 * time.Millisecond
	}
	f.BreakGlass = breakglass.New(store, f.Logins, opt.BreakGlass)
	background(t, f.BreakGlass.Run)
	registry := prometheus.NewRegistry()
	var outbox *audit.Outbox
	if opt.OutboxMax > 0 {
		outbox = audit.NewOutbox(store, f.Audit.open(), opt.OutboxMax)
	}
	f.API = adminapi.New(adminapi.Deps{
		Outbox:  outbox,
		Catalog: store, Operations: f.Domain.engine, Tenants: f.Domain, Shards: f.Domain, Moves: f.Domain, Soaks: f.Domain, Secrets: &Secrets{f.Domain}, Doctor: Doctor{}, Verifications: f.Domain, Clones: f.Domain, Upgrades: f.Domain, Audit: Outbox{store, f.Audit}, Anchors: f.Audit, Sources: audit.SourceOf(store), Callers: f.Identities,
		Identities: f.Identities, BreakGlass: f.BreakGlass, Copies: held, Erasures: held,
		Access: f.Access, Rebalance: f.Rebalance,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), Registry: registry, Log: log,
	})
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "s2")
	f.serve(listen(t))
	return f
}

// listen takes a port that the system gives to nobody else: a test may come back to it.
func listen(t testing.TB) (l net.Listener) {
	for range 20 {
		port, err := process.FreePort()
		require.NoError(t, err)
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil { //nolint:noctx // ends with the test
			return l
		}
	}
	t.Fatal("every free port is lost to others")
	return nil
}

// background runs a part until the test ends.
func background(t testing.TB, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

// Serve listens at addr until the test ends or Stop is called.
func (f *Fleet) Serve(addr string) {
	listener, err := net.Listen("tcp", addr) //nolint:noctx // ends with the test
	require.NoError(f.t, err)
	f.serve(listener)
}

func (f *Fleet) serve(listener net.Listener) {
	f.URL = "http://" + listener.Addr().String()
	server := f.API.Server()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var once sync.Once
	f.Stop = func() {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(f.t, server.Shutdown(ctx))
			require.ErrorIs(f.t, <-served, http.ErrServerClosed)
		})
	}
	f.t.Cleanup(f.Stop)
}

// Log collects what is logged.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
