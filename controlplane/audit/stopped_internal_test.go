package audit

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pgtest"
)

// A replica that was stopped in the middle of a write keeps no other from
// starting, and not for ever from writing.
func TestStoppedWriter(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dsn := pgtest.Database(t)
	require.NoError(t, Migrate(ctx, dsn))
	stopped, err := Open(ctx, dsn)
	require.NoError(t, err)
	defer stopped.Close()
	goesOn := make(chan struct{})
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- stopped.write(ctx, func(tx pgx.Tx) error {
			close(began)
			<-goesOn
			_, err := tx.Exec(ctx, "select 1")
			return err
		})
	}()
	<-began
	require.NoError(t, Migrate(ctx, dsn), "it waits for no writer")
	other, err := Open(ctx, dsn)
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.write(ctx, func(pgx.Tx) error { return nil }), "it goes on without the one that was stopped")
	close(goesOn)
	require.Error(t, <-ended, "what it was about to do it must not do")
}
