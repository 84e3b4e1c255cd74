package provision_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// A pause whose maker died is ended, unless somebody is at work on the tenant.
func TestForgottenPausesEnd(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	stopEngine := w.run(w.engine.Run)
	idle, busy := w.create("idle"), w.create("busy")
	stopEngine()
	// PgBouncer lists no database that nobody is connected to, paused or not.
	for _, p := range []shardmap.Placement{idle, busy} {
		conn, err := w.login(p)
		require.NoError(t, err)
		defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	}
	_, err := w.Suspend(w.ctx(), "busy", tester, "") // nobody works on it
	require.NoError(t, err)
	console, err := w.fleet.Console(w.ctx(), "a")
	require.NoError(t, err)
	defer console.Close()
	require.NoError(t, console.Pause(w.ctx(), busy.Database))
	require.NoError(t, console.Pause(w.ctx(), idle.Database))
	defer func() { require.NoError(t, console.Resume(w.ctx(), busy.Database)) }()
	paused := func(database string) bool {
		entries, err := console.Databases(w.ctx())
		require.NoError(t, err)
		return entries[database].Paused
	}
	require.True(t, paused(idle.Database))
	w.run(w.Run)
	pgtest.Eventually(t, "its clients go on", func() bool { return !paused(idle.Database) })
	require.True(t, paused(busy.Database), "somebody is at work on it")
}
