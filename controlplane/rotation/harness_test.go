package rotation

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// world is a catalog of the test's own over shards that tests share.
type world struct {
	*worldtest.World
	nodes *nodes
	opt   Options
	held  secret.Store // instead of the world's, for replicas to come
	*Service
}

func (w *world) complete(b worldtest.Base) error {
	opt := w.opt
	opt.Logger = b.Log
	var secrets secret.Store = b.Secrets
	if w.held != nil {
		secrets = w.held
	}
	w.Service = New(b.Store, b.Engine, b.Fleet, secrets, w.nodes, opt)
	return nil
}

func TestMain(m *testing.M) { worldtest.Main(m, (&world{nodes: &nodes{}}).complete) }

func newWorld(t *testing.T, opt Options, shards ...shardmap.ShardID) *world {
	t.Helper()
	w := &world{nodes: &nodes{}, opt: opt}
	w.World = worldtest.New(t, shardtest.Server, w.complete, shards...)
	return w
}

// tenant makes a tenant as users do.
func (w *world) tenant(id shardmap.TenantID) shardmap.Placement {
	w.T.Helper()
	return w.Tenant(id, "")
}

// nodes answer as a test wants them to.
type nodes struct {
	mu     sync.Mutex
	asked  int
	answer func(asked int) (publish.Renewed, error)
}

func (n *nodes) Renew(context.Context, shardmap.TenantID, int64, time.Duration) (publish.Renewed, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.answer == nil {
		return publish.Renewed{Nodes: 1, Acks: []shardmap.RenewalAck{{Node: "n1", Done: true}}}, nil
	}
	return n.answer(n.asked)
}

func (w *world) document(p shardmap.Placement) secret.Login {
	w.T.Helper()
	l, _, err := w.Secrets.Get(w.T.Context(), secret.DatabaseAuth(p.Database))
	require.NoError(w.T, err)
	return l
}

// enter logs in through the shard's PgBouncer as a node does, and asks something.
func (w *world) enter(p shardmap.Placement, login secret.Login) error {
	w.T.Helper()
	on, err := w.Store.GetShard(w.T.Context(), p.Shard)
	require.NoError(w.T, err)
	conn, err := pgtest.Channel(w.T).Connect(w.T.Context(), on.BouncerHost, on.BouncerPort, p.Database, login)
	if err != nil {
		return err
	}
	defer closeConn(w.T.Context(), conn)
	_, err = conn.Exec(w.T.Context(), "SELECT 1")
	return err
}

// requireServed checks that every login of the secret is let in, and none of the documents of before.
func (w *world) requireServed(p shardmap.Placement, before ...secret.Login) {
	w.T.Helper()
	for l := range tenantdb.Login(tenantdb.Logins) {
		login, err := l.From(w.document(p), p.Database)
		require.NoError(w.T, err)
		require.NoError(w.T, w.enter(p, login), login.User)
		for _, old := range before {
			login, err := l.From(old, p.Database)
			require.NoError(w.T, err)
			require.Error(w.T, w.enter(p, login), "generation %d of %s", login.Generation, login.User)
		}
	}
}

// audited lists the actions that the audit log has of a tenant or shard, and
// checks that no secret is in any record.
func (w *world) audited(object string, secrets ...string) (actions []string) {
	w.T.Helper()
	rows, err := w.Store.Pool().Query(w.T.Context(), `select record::text, record->>'Action', record->>'Object' from audit_outbox order by id`)
	require.NoError(w.T, err)
	defer rows.Close()
	for rows.Next() {
		var record, action, about string
		require.NoError(w.T, rows.Scan(&record, &action, &about))
		for _, s := range secrets {
			require.NotContains(w.T, record, s)
		}
		if about == object {
			actions = append(actions, action)
		}
	}
	require.NoError(w.T, rows.Err())
	return actions
}
