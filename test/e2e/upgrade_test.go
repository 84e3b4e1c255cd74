package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/test/fleet"
)

// A tenant goes to a shard on a newer Postgres under its clients, and a clone of
// it lives there beside it: the same requests are answered the same by both.
func TestTenantIsUpgradedUnderItsClients(t *testing.T) {
	f := fleet.Start(t, dev.Options{Shards: 2, Nodes: 1, PostgresBin: map[string]string{"s2": pgtest.NewestBinDir(t)}})
	f.Create(t, "acme", "s1")
	plan, err := f.Admin.PlanUpgrade(t.Context(), "s1", "s2")
	require.NoError(t, err)
	require.Len(t, plan.Items, 1)
	require.True(t, plan.Items[0].Feasible, "%v", plan.Items[0].Refusals)
	require.Regexp(t, fmt.Sprintf(`^%d\.`, pgtest.NewestMajor), plan.To.Postgres)

	token := f.Token(t, "acme", "editor")
	var acked atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	write := func() {
		ans := f.Do(t, http.MethodPost, "/rest/v1/accounts", token, map[string]any{"owner_tag": "acme", "balance": 1})
		if ans.Status == http.StatusCreated {
			acked.Add(1)
		}
	}
	write()
	require.EqualValues(t, 1, acked.Load())
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				write()
			}
		}
	}()
	op, err := f.Admin.CloneTenant(t.Context(), "acme", api.CloneTenant{ID: "acme-staging", To: "s2"}, client.Change{})
	require.NoError(t, err)
	require.Equal(t, "done", f.Finish(t, op.ID, 3*time.Minute).State)
	require.Equal(t, "done", f.Finish(t, f.Move(t, "acme", "s2").ID, 3*time.Minute).State)
	at := acked.Load()
	pgtest.Eventually(t, "clients go on at the newer server", func() bool { return acked.Load() > at+5 })
	close(stop)
	<-stopped

	count := func(tenant string) int64 {
		ans := f.Do(t, http.MethodGet, "/rest/v1/accounts?select=owner_tag", f.Token(t, tenant, "viewer"), nil)
		require.Equal(t, http.StatusOK, ans.Status, "%s", ans.Body)
		var rows []map[string]any
		require.NoError(t, json.Unmarshal(ans.Body, &rows))
		return int64(len(rows))
	}
	require.GreaterOrEqual(t, count("acme"), acked.Load(), "an acknowledged write is lost")
	copied := count("acme-staging")
	require.Positive(t, copied)
	require.LessOrEqual(t, copied, count("acme"))

	// What the machine's pg_dump can't read is refused, and said how to mend.
	dry, err := f.Admin.PlanClone(t.Context(), "acme", api.CloneTenant{ID: "another"})
	require.NoError(t, err)
	if !dry.Feasible {
		require.Contains(t, dry.Refusal, "install the client programs of Postgres")
	}
}
