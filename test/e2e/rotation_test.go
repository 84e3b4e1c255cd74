package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/rotation"
	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Credentials are rotated under steady traffic, and no request fails for it: all
// of the fleet's, with the control plane killed in the middle; then some with
// NATS away, so that no node hears of it and each has to learn it by being
// refused. What was used before opens nothing afterwards.
func TestCredentialsAreRotatedUnderTraffic(t *testing.T) {
	const alone = 1 // is rotated with NATS away
	tenants, rate := 8, 5.0
	if os.Getenv("FREEHOLD_SOAK") != "" {
		tenants, rate = 50, 2.0
	}
	var ids []string
	var sending []ledger.Tenant
	for i := range tenants {
		id := fmt.Sprintf("turner-%02d", i)
		shared.Create(t, id, []string{"s1", "s2"}[i%2])
		ids = append(ids, id)
		sending = append(sending, ledger.Tenant{ID: shardmap.TenantID(id), Token: shared.Token(t, id, "editor"), Rate: rate})
	}
	secure, err := shared.Info.TLSConfig()
	require.NoError(t, err)
	traffic, err := ledger.New(ledger.Config{Nodes: shared.Info.DataplaneURLs, TLS: secure, Tenants: sending})
	require.NoError(t, err)
	require.NoError(t, traffic.Open(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); traffic.Run(ctx) }()
	defer func() { cancel(); <-done }()
	pgtest.Eventually(t, "traffic flows", func() bool { return traffic.Now().Requests > int64(tenants) })

	before := map[string]secret.Login{}
	for _, id := range ids {
		before[id] = document(t, id)
	}
	op, err := shared.Admin.RotateSecrets(t.Context(), client.Rotation{AtOnce: 4}, client.Change{})
	require.NoError(t, err)
	pgtest.Eventually(t, "the first is rotated", func() bool { return document(t, ids[0]).Generation > before[ids[0]].Generation })
	require.NoError(t, shared.Kill("controlplane"))
	require.NoError(t, shared.Launch(t.Context(), "controlplane"))
	var all rotation.AllReceipt
	require.NoError(t, json.Unmarshal(shared.Wait(t, op.ID, 5*time.Minute).Receipt, &all))
	require.Zero(t, all.Failures, "%v", all.Failed)
	require.GreaterOrEqual(t, all.Rotated, tenants)
	for _, id := range ids {
		require.Equal(t, before[id].Generation+1, document(t, id).Generation, id)
		requireClosed(t, id, before[id])
	}

	require.NoError(t, shared.Kill("nats"))
	for _, id := range ids[:alone] {
		was := document(t, id)
		op, err := shared.Admin.RotateSecrets(t.Context(), client.Rotation{Tenant: id}, client.Change{})
		require.NoError(t, err)
		var r rotation.TenantReceipt
		require.NoError(t, json.Unmarshal(shared.Wait(t, op.ID, 2*time.Minute).Receipt, &r))
		require.NotEmpty(t, r.Note, "nobody could be told")
		requireClosed(t, id, was)
	}
	// Every node has to have met the closed logins.
	sent := traffic.Now().Requests
	pgtest.Eventually(t, "traffic goes on", func() bool { return traffic.Now().Requests > sent+int64(10*tenants) })
	require.NoError(t, shared.Launch(t.Context(), "nats"))

	cancel()
	<-done
	audit, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	r, err := traffic.Audit(audit, ledger.Postgres(func(ctx context.Context, id shardmap.TenantID) (*pgx.Conn, error) {
		return shared.TenantPostgres(ctx, string(id))
	}))
	require.NoError(t, err)
	require.Empty(t, r.Failures)
	for _, there := range []ledger.Tally{r.Databases, r.API} {
		require.Positive(t, there.Checked)
		require.Zero(t, there.Lost+there.Doubled+there.Ghosts+there.Foreign, "%+v", there)
	}
	var longest time.Duration
	for _, of := range r.Tenants {
		longest = max(longest, time.Duration(of.LongestGap))
	}
	// A leaked credential is closed at once, and the tenant is served again.
	was := document(t, ids[0])
	op, err = shared.Admin.RevokeSecret(t.Context(), ids[0], client.Change{})
	require.NoError(t, err)
	shared.Wait(t, op.ID, 3*time.Minute)
	requireClosed(t, ids[0], was)
	pgtest.Eventually(t, "the tenant is served", func() bool {
		return shared.Do(t, "GET", "/rest/v1/accounts?limit=1", sending[0].Token, nil).Status == http.StatusOK
	})
	t.Logf("%d requests of %d tenants, %d writes acknowledged, %d credentials rotated; longest gap of a client %v", r.Requests, tenants, r.Acknowledged, all.Rotated+alone, longest)
}

// document is a tenant's secret as the fleet's store has it.
func document(t *testing.T, tenant string) secret.Login {
	t.Helper()
	store, err := secret.OpenDir(filepath.Join(shared.Dir(), "secrets"))
	require.NoError(t, err)
	place, err := shared.Admin.Placement(t.Context(), tenant)
	require.NoError(t, err)
	l, _, err := store.Get(t.Context(), secret.DatabaseAuth(place.Database))
	require.NoError(t, err)
	return l
}

// requireClosed checks that an earlier login opens the tenant's database no more:
// it is as it was issued, but that its server does not know its password.
func requireClosed(t *testing.T, tenant string, was secret.Login) {
	t.Helper()
	conn, err := shared.TenantPostgres(t.Context(), tenant)
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // nothing is lost with it
	enter := func(by secret.Login) error {
		cfg := conn.Config().Copy()
		cfg.User, cfg.Password = by.User, by.Password
		c, err := pgx.ConnectConfig(t.Context(), cfg)
		if err == nil {
			_ = c.Close(t.Context())
		}
		return err
	}
	require.NoError(t, enter(document(t, tenant)))
	require.Error(t, enter(was), "generation %d of %s", was.Generation, tenant)
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", was.User).Scan(&left))
	require.Zero(t, left, "sessions of %s", was.User)
}
