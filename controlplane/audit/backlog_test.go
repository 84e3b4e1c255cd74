package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
)

// While the audit database disagrees, records wait, it is said why, and at the
// bound there is no room for changes; when they are in the log there is again.
func TestTheOutboxIsBounded(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	log, _ := newLog(t)
	stop := relay(t, store, log, quiet)
	write(t, store, 1)
	holds(t, log, 1)
	empty := func() bool {
		var waiting int
		return store.Pool().QueryRow(ctx, `select count(*) from audit_outbox`).Scan(&waiting) == nil && waiting == 0
	}
	require.Eventually(t, empty, time.Minute, 10*time.Millisecond)
	stop()
	outbox := func() *audit.Outbox { return audit.NewOutbox(store, log, 3) } // one that has not looked yet
	require.NoError(t, outbox().Room(ctx))

	_, err := store.Pool().Exec(ctx, `update audit_sequence set last = 0`) // a catalog that was set back
	require.NoError(t, err)
	write(t, store, 2)
	write(t, store, 3)
	stop = relay(t, store, log, quiet)
	require.Eventually(t, func() bool { return log.Trouble() != nil }, time.Minute, 10*time.Millisecond)
	require.ErrorIs(t, log.Trouble(), audit.ErrDiverged)
	b, err := outbox().Look(ctx)
	require.NoError(t, err)
	require.Equal(t, "diverged", b.Why)
	require.EqualValues(t, 2, b.Records)
	require.NoError(t, outbox().Room(ctx))
	write(t, store, 4)
	write(t, store, 5)
	write(t, store, 6)
	require.ErrorIs(t, outbox().Room(ctx), audit.ErrBacklog)
	b, err = outbox().Look(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 4, b.Records, "no further than the bound says")
	require.Positive(t, b.Oldest)

	stop()
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error { // somebody mends it
		for _, sql := range []string{`set local session_replication_role = replica`, `update audit_outbox set sequence = null`, `update audit_sequence set last = 1`} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	relay(t, store, log, quiet)
	require.Eventually(t, empty, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool { return log.Trouble() == nil }, time.Minute, 10*time.Millisecond)
	require.NoError(t, outbox().Room(ctx))
}
