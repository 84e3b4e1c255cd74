package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/shardmap"
)

// A tenant moves, soaks, and is taken back, while applications read and write
// by the REST API and see no error; what was written at either place is there.
func TestTenantIsTakenBackUnderTraffic(t *testing.T) {
	const tenant = "returner"
	shared.Create(t, tenant, "s1")
	secure, err := shared.Info.TLSConfig()
	require.NoError(t, err)
	traffic, err := ledger.New(ledger.Config{Nodes: shared.Info.DataplaneURLs, TLS: secure,
		Tenants: []ledger.Tenant{{ID: tenant, Token: shared.Token(t, tenant, "editor"), Rate: 40}}})
	require.NoError(t, err)
	require.NoError(t, traffic.Open(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); traffic.Run(ctx) }()
	defer func() { cancel(); <-done }()

	_, err = shared.Admin.SetNeeds(t.Context(), tenant, api.Needs{Pinned: true}, client.Change{})
	require.NoError(t, err)
	_, err = shared.Admin.MoveTenant(t.Context(), tenant, api.MoveTenant{To: "s2"}, client.Change{})
	require.ErrorContains(t, err, "pinned")
	_, err = shared.Admin.SetNeeds(t.Context(), tenant, api.Needs{}, client.Change{})
	require.NoError(t, err)
	op, err := shared.Admin.MoveTenant(t.Context(), tenant, api.MoveTenant{To: "s2", MaxPauseMS: 3000, SoakSeconds: 600}, client.Change{})
	require.NoError(t, err)
	shared.Wait(t, op.ID, 3*time.Minute)
	soak, err := shared.Admin.Soak(t.Context(), op.ID)
	require.NoError(t, err)
	require.Equal(t, "soaking", soak.State)
	require.EqualValues(t, "s2", soak.Home)

	// New logins come along on the way back.
	turned, err := shared.Admin.RotateSecrets(t.Context(), client.Rotation{Tenant: tenant}, client.Change{})
	require.NoError(t, err)
	shared.Wait(t, turned.ID, 3*time.Minute)

	back, err := shared.Admin.ReverseMove(t.Context(), op.ID, api.ReverseMove{MaxPauseMS: 3000}, client.Change{})
	require.NoError(t, err)
	var receipt move.Receipt
	require.NoError(t, json.Unmarshal(shared.Wait(t, back.ID, 3*time.Minute).Receipt, &receipt))
	require.Equal(t, move.Equal, receipt.Verification.Final)
	place, err := shared.Admin.Placement(t.Context(), tenant)
	require.NoError(t, err)
	require.EqualValues(t, "s1", place.Shard)
	require.Equal(t, shardmap.Epoch(3), place.Epoch)

	cancel()
	<-done
	audit, stop := context.WithTimeout(context.Background(), time.Minute)
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
	require.Zero(t, r.ReadMissing+r.ReadForeign)
	t.Logf("%d requests, %d writes acknowledged; the way back paused for %v ms; longest gap of a client %v", r.Requests, r.Acknowledged, receipt.PauseMS, time.Duration(r.Tenants[0].LongestGap))
}
