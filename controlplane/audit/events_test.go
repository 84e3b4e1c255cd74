package audit_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

const ackWait = time.Second

// replicaEnv, with a catalog's DSN and NATS' URL, makes the test binary a
// replica that takes events and can be killed.
const replicaEnv = "FREEHOLD_AUDIT_TEST_REPLICA"

func mortalReplica(env string) error {
	dsn, url, _ := strings.Cut(env, "\n")
	store, err := catalog.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url, nats.Timeout(20*time.Second))
	if err != nil {
		return err
	}
	return audit.Events(context.Background(), store, nc, audit.EventsOptions{AckWait: ackWait})
}

// bus is a NATS server that can be stopped and come back, with or without its store.
type bus struct {
	t      *testing.T
	server *natsserver.Server
	dir    string
	nc     *nats.Conn
	js     jetstream.JetStream
}

func newBus(t *testing.T) *bus {
	b := &bus{t: t, dir: t.TempDir()}
	b.start(0)
	var err error
	b.nc, err = nats.Connect(b.server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(t, err)
	t.Cleanup(func() { b.nc.Close(); b.stop() })
	return b
}

func (b *bus) start(port int) {
	var err error
	b.server, err = natsserver.Start(testContext(b.t), natsserver.Config{Dir: b.dir, Port: port})
	require.NoError(b.t, err)
}

func (b *bus) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(b.t, b.server.Stop(ctx))
}

// publish sends until the stream has it: a node would keep the event until then.
func (b *bus) publish(node string, data []byte) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Second)
		defer cancel()
		_, err := b.js.Publish(ctx, access.AuditSubject+node, data) // without an ID: the stream keeps every copy
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
}

func (b *bus) event(e access.Event) access.Event {
	b.t.Helper()
	data, err := json.Marshal(e)
	require.NoError(b.t, err)
	b.publish(e.Node, data)
	return e
}

// drained waits until every message has come to its end.
func (b *bus) drained() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := b.js.Stream(ctx, access.AuditStream)
		if err != nil {
			return false
		}
		consumer, err := stream.Consumer(ctx, "controlplane")
		if err != nil {
			return false
		}
		info, err := consumer.Info(ctx)
		return err == nil && info.NumPending == 0 && info.NumAckPending == 0
	}, 30*time.Second, 20*time.Millisecond)
}

func follow(t *testing.T, store *catalog.Store, b *bus, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := audit.Events(ctx, store, b.nc, audit.EventsOptions{AckWait: ackWait, Logger: log}); err != nil {
			t.Errorf("events: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// recorded are the records of nodes in the outbox, as JSON, by the tenants they are of.
func recorded(t *testing.T, store *catalog.Store) map[string][]string {
	t.Helper()
	rows, err := store.Pool().Query(testContext(t), `select record->>'Tenant', record::text from audit_outbox order by id`)
	require.NoError(t, err)
	defer rows.Close()
	found := map[string][]string{}
	for rows.Next() {
		var tenant, record string
		require.NoError(t, rows.Scan(&tenant, &record))
		found[tenant] = append(found[tenant], record)
	}
	require.NoError(t, rows.Err())
	return found
}

func TestEachEventOfANodeIsRecordedOnce(t *testing.T) {
	t.Parallel()
	store, b := catalogtest.Open(t), newBus(t)
	stop := []func(){follow(t, store, b, quiet), follow(t, store, b, quiet)}
	first := access.NewEvent("n1", access.ActionCrossTenant, "acme")
	first.Claimed, first.Subject, first.Issuer, first.Remote, first.RequestID, first.Reason, first.More =
		"beta\x00\x1b[2J", "user-1", "https://id.example", "192.0.2.1", "r1", "the token is of acme, the host of beta", 3
	b.event(first)
	for range 5 {
		b.event(first)
	}
	want := map[string]bool{}
	for range 60 {
		e := b.event(access.NewEvent("n2", access.ActionKeyRefused, "beta"))
		want[e.ID] = true
		b.event(e)
	}
	b.drained()
	found := recorded(t, store)
	require.Len(t, found["acme"], 1)
	require.Len(t, found["beta"], len(want))
	var r catalog.AuditRecord
	require.NoError(t, json.Unmarshal([]byte(found["acme"][0]), &r))
	require.Equal(t, catalog.Actor{Name: "app/user-1", Role: "application", Reason: first.Reason, RequestID: "r1", Address: "192.0.2.1"}, r.Actor)
	require.Equal(t, []string{access.ActionCrossTenant, "tenant/acme", "refused"}, []string{r.Action, r.Object, r.Outcome})
	require.WithinDuration(t, first.Time, r.Time, 0)
	require.JSONEq(t, `{"node": "n1", "claimed": "beta��[2J", "issuer": "https://id.example", "more": 3}`, string(r.Details))

	// What makes no sense is dropped, and holds nothing up.
	for _, stop := range stop {
		stop()
	}
	said := make(complaints, 10)
	follow(t, store, b, slog.New(slog.NewTextHandler(said, nil)))
	for _, bad := range []string{"", "{", "[]", `{"id": "secret-17"}`, `{"id": "` + first.ID + `", "time": "2026-01-01T00:00:00Z", "node": "n", "action": "tenant.delete", "tenant": "acme"}`} {
		b.publish("n1", []byte(bad))
	}
	forged, err := json.Marshal(access.NewEvent("n2", access.ActionRevoked, "forged"))
	require.NoError(t, err)
	b.publish("n1", forged) // in another node's name
	late := access.NewEvent("n3", access.ActionRevoked, "gamma")
	late.Time = time.Now().AddDate(50, 0, 0) // a clock that says nothing
	b.event(late)
	b.drained()
	found = recorded(t, store)
	require.Len(t, found["gamma"], 1)
	require.Len(t, found["acme"], 1)
	require.Empty(t, found["forged"])
	require.GreaterOrEqual(t, len(said), 6)
	line := <-said
	require.Contains(t, line, "audit event of a node is dropped")
	require.NotContains(t, line, "secret-17")
	require.NoError(t, json.Unmarshal([]byte(found["gamma"][0]), &r))
	require.WithinDuration(t, time.Now(), r.Time, time.Hour)
}

// While a fleet is upgraded, what older nodes said and say is recorded, too.
func TestEventsOfOlderNodesAreRecorded(t *testing.T) {
	t.Parallel()
	store, b := catalogtest.Open(t), newBus(t)
	before := access.AuditStreamConfig(1) // as an older control plane made it
	before.Subjects = []string{access.AuditSubjectOfAll}
	_, err := b.js.CreateStream(testContext(t), before)
	require.NoError(t, err)
	say := func(tenant shardmap.TenantID) {
		data, err := json.Marshal(access.NewEvent("n1", access.ActionCrossTenant, tenant))
		require.NoError(t, err)
		_, err = b.js.Publish(testContext(t), access.AuditSubjectOfAll, data)
		require.NoError(t, err)
	}
	say("acme")
	follow(t, store, b, quiet)
	b.event(access.NewEvent("n2", access.ActionCrossTenant, "beta")) // the stream is as it is now
	say("gamma")
	b.drained()
	for _, tenant := range []string{"acme", "beta", "gamma"} {
		require.Len(t, recorded(t, store)[tenant], 1, tenant)
	}
}

func TestEventsOutliveAReplicaAndNATS(t *testing.T) {
	t.Parallel()
	store, dsn := catalogtest.OpenDSN(t)
	b := newBus(t)

	// A replica dies after an event is recorded and before NATS knows.
	_, err := b.js.CreateStream(testContext(t), access.AuditStreamConfig(1))
	require.NoError(t, err)
	b.event(access.NewEvent("n1", access.ActionCrossTenant, "acme"))
	pgtest.KilledAt(t, "audit/events/recorded", replicaEnv+"="+dsn+"\n"+b.server.URL())
	require.Len(t, recorded(t, store)["acme"], 1)
	follow(t, store, b, quiet)
	b.drained()
	require.Len(t, recorded(t, store)["acme"], 1)

	// NATS comes back as it was, then with nothing; the catalog still knows what it had.
	port := b.server.Port()
	again := b.event(access.NewEvent("n1", access.ActionCrossTenant, "beta"))
	b.drained()
	b.stop()
	b.start(port)
	b.event(again)
	b.event(access.NewEvent("n1", access.ActionCrossTenant, "gamma"))
	b.drained()
	b.stop()
	require.NoError(t, os.RemoveAll(b.dir))
	b.start(port)
	b.event(again)
	b.event(access.NewEvent("n1", access.ActionCrossTenant, "delta"))
	b.drained()
	require.NoError(t, b.js.DeleteStream(testContext(t), access.AuditStream))
	b.event(again)
	b.event(access.NewEvent("n1", access.ActionCrossTenant, "epsilon"))
	b.drained()
	for tenant, records := range recorded(t, store) {
		require.Len(t, records, 1, tenant)
	}
	require.Len(t, recorded(t, store), 5)
}
