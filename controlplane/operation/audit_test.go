package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// Every operation's end is in the audit log once, however it ended, with who asked for it.
func TestEndIsAudited(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	hold := make(chan struct{})
	e := start(t, store,
		operation.Step[doc]{Name: "one", Do: func(ctx context.Context, r *operation.Run[doc]) error {
			switch r.Data.N {
			case 1:
				return operation.Permanent(errors.New("no such luck"))
			case 2:
				close(hold)
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}},
		operation.Step[doc]{Name: "two", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[doc]) error {
			return r.Commit(ctx, func(context.Context, pgx.Tx) error { return nil })
		}},
	)
	ann := catalog.Actor{Name: "ann", Role: "operator", Reason: "ticket 7", RequestID: "r-1", Address: "192.0.2.7"}
	bob := catalog.Actor{Name: "bob", Reason: "not today"}
	done := begin(t, e, operation.Spec{Actor: ann, Data: doc{N: 0}})
	failed := begin(t, e, operation.Spec{Actor: ann, Data: doc{N: 1}})
	canceled := begin(t, e, operation.Spec{Actor: ann, Data: doc{N: 2}, Tenant: "acme"})
	<-hold
	_, err := e.Cancel(testContext(t), canceled.ID, bob)
	require.NoError(t, err)
	for _, op := range []*operation.Operation{done, failed, canceled} {
		require.Equal(t, ann, ended(t, e, op.ID).Actor)
	}
	// One that no worker ever took up ends with the request to cancel it.
	idle := operation.New(store, operation.Options{Logger: quiet})
	operation.Register(idle, operation.Kind[doc]{Name: "idle", Steps: []operation.Step[doc]{{Name: "one", Do: note("one")}}})
	never, err := idle.Start(testContext(t), operation.Spec{Kind: "idle", Actor: ann, Data: doc{}})
	require.NoError(t, err)
	for range 2 {
		_, _ = idle.Cancel(testContext(t), never.ID, bob) // the second finds it ended
	}

	type end struct{ Kind, Error string }
	want := map[string]struct {
		outcome string
		end     end
	}{
		done.ID:     {"ok", end{"test", ""}},
		failed.ID:   {"failed", end{"test", "no such luck"}},
		canceled.ID: {"canceled", end{"test", "canceled by bob: not today"}},
		never.ID:    {"canceled", end{"idle", "canceled by bob: not today"}},
	}
	rows, err := store.Pool().Query(testContext(t), `select record from audit_outbox order by id`)
	require.NoError(t, err)
	records, err := pgx.CollectRows(rows, pgx.RowTo[catalog.AuditRecord])
	require.NoError(t, err)
	require.Len(t, records, len(want))
	for _, r := range records {
		id := r.Object[len("operation/"):]
		require.Contains(t, want, id)
		require.Equal(t, ann, r.Actor)
		require.Equal(t, operation.ActionEnd, r.Action)
		require.Equal(t, want[id].outcome, r.Outcome)
		require.WithinDuration(t, time.Now(), r.Time, time.Minute)
		var got end
		require.NoError(t, json.Unmarshal(r.Details, &got))
		require.Equal(t, want[id].end, got)
		delete(want, id)
	}
	require.Empty(t, want)
}
