package adminapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
)

// With too many records on their way to the audit log nothing is changed any
// more, but what takes rights away; and refusals, which anybody can have, stop at half of
// that. It is said where one looks, and ends by itself when the records are in the log.
func TestChangesWaitForTheAuditLog(t *testing.T) {
	t.Parallel()
	const most = 400
	f := newFleetWith(t, catalogtest.Open(t), admintest.Options{OutboxMax: most})
	admin, viewer := adminapi.RoleAdmin, adminapi.RoleViewer
	require.Contains(t, string(f.ask("", "GET", "/readyz", "").body), `"audit":"recorded"`)
	waiting := func() (n int) {
		require.NoError(t, f.Store.Pool().QueryRow(t.Context(), `select count(*) from audit_outbox`).Scan(&n))
		return n
	}
	wait := func(n int) { // so many records
		catalogtest.Tx(t, f.Store, func(ctx context.Context, tx pgx.Tx) error {
			for range n {
				if err := f.Store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: catalog.Actor{Name: "ann", Role: "operator"}, Action: "tenant.needs", Object: "tenant/acme", Outcome: "ok"}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	wait(most / 2)
	require.Eventually(t, func() bool { // a look is believed for a second
		require.Equal(t, http.StatusForbidden, f.ask(viewer, "POST", "/v1/shards/s1/cordon", "").StatusCode)
		return strings.Contains(f.Log.String(), "a refusal is not in the audit log")
	}, time.Minute, 50*time.Millisecond)
	half := waiting()
	require.Equal(t, http.StatusForbidden, f.ask(viewer, "POST", "/v1/shards/s1/cordon", "").StatusCode)
	require.Equal(t, half, waiting(), "a refusal is in the process' log now")
	require.Less(t, half, most)
	require.Equal(t, http.StatusOK, f.ask(admin, "POST", "/v1/shards/s1/cordon", "").StatusCode, "refusals keep nobody from changing anything")
	wait(most)
	require.Eventually(t, func() bool {
		return f.ask(admin, "POST", "/v1/shards/s1/cordon", "").StatusCode == http.StatusServiceUnavailable
	}, time.Minute, 50*time.Millisecond)
	full := waiting()
	require.Equal(t, "audit_backlog", f.ask(admin, "POST", "/v1/shards/s1/uncordon", "").problem(t).Code)
	require.Equal(t, http.StatusForbidden, f.ask(viewer, "POST", "/v1/shards/s1/cordon", "").StatusCode)
	require.Equal(t, full, waiting(), "a refusal is in the process' log now")
	require.Contains(t, string(f.ask("", "GET", "/readyz", "").body), `"audit":"changes are refused"`)
	require.Equal(t, http.StatusOK, f.ask(viewer, "GET", "/v1/shards/s1", "").StatusCode)
	require.Equal(t, http.StatusNotFound, f.ask(admin, "DELETE", "/v1/access-tokens/0123456789ab", "").StatusCode, "it got as far as to look for it")

	require.Equal(t, http.StatusOK, f.ask(admin, "POST", "/v1/audit/checkpoint", "{}").StatusCode) // carries the outbox into the log, here
	require.Eventually(t, func() bool { return f.ask(admin, "POST", "/v1/shards/s1/uncordon", "").StatusCode == http.StatusOK }, time.Minute, 50*time.Millisecond)
}
