package dataplane

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
)

// sealed is a store that does not answer, until it does.
type sealed struct {
	secret.Store
	err error
}

func (s *sealed) Get(context.Context, string) (secret.Login, int64, error) {
	return secret.Login{}, 0, s.err
}

func TestANodeWithoutLoginsIsNotReady(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	store := &sealed{err: secret.ErrUnavailable}
	r := &storeReady{store: store, log: slog.New(slog.NewTextHandler(&said, nil))}
	for range 2 {
		require.ErrorIs(t, r.ready(), secret.ErrUnavailable)
	}
	require.Equal(t, 1, strings.Count(said.String(), "serves nobody"))
	store.err = secret.ErrNotFound
	require.NoError(t, r.ready())
	store.err = secret.ErrUnavailable
	require.NoError(t, r.ready(), "it has leases now, and serves by them")
}
