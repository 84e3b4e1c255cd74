package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// stage is an empty directory that the servers' account can pass through to.
func stage(t *testing.T) string {
	t.Helper()
	return pgtest.TempDir(t)
}

// The whole demo with a small tenant, as the command plays it, by TLS alone.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("plays for half a minute")
	}
	dir := stage(t)
	var story bytes.Buffer
	r, err := Run(t.Context(), Options{Dir: dir, Out: &story, BigBytes: 5e6, TLS: true, atMost: 6 * time.Minute, fastUnsafe: true, traffic: 0.2})
	r.Print(&story)
	t.Logf("%s", &story)
	require.NoError(t, err)
	require.Empty(t, r.Wrong)
	require.Contains(t, story.String(), "All is well.")
	require.NoDirExists(t, dir, "nothing is left behind")
}

func TestNothingOfOthersIsTouched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	require.NoError(t, os.WriteFile(mine, nil, 0o600))
	_, err := Run(t.Context(), Options{Dir: dir})
	require.ErrorContains(t, err, "not empty")
	require.FileExists(t, mine)
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	dir := stage(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Second, func() { cancel(cause) })
	_, err := Run(ctx, Options{Dir: dir})
	require.ErrorIs(t, err, cause)
	require.NoDirExists(t, dir)
}

func good() Result {
	m := Move{Rows: 1, Bytes: 1, CopyMBPerS: 1, Pause: 1, ClientPause: 1, VerifiedCopy: move.Equal, VerifiedFinal: move.Equal}
	return Result{Tenants: 12, NodeAway: 1, EndsOn: fromShard, Moves: []Move{m, m}, Ledger: ledger.Receipt{
		Requests: 1, TurnedAway: 1, Databases: ledger.Tally{Checked: 1}, API: ledger.Tally{Checked: 1}}}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	r := good()
	require.NoError(t, r.verdict())
	var unjudged bytes.Buffer
	Result{}.Print(&unjudged)
	require.Contains(t, unjudged.String(), "WRONG:")
	require.NotContains(t, unjudged.String(), "All is well.")
	for name, spoil := range map[string]func(*Result){
		"failed request":        func(r *Result) { r.Ledger.Failed = 1 },
		"unknown write":         func(r *Result) { r.Ledger.Unknown = 1 },
		"lost":                  func(r *Result) { r.Ledger.Databases.Lost = 1 },
		"lost over the API":     func(r *Result) { r.Ledger.API.Lost = 1 },
		"doubled":               func(r *Result) { r.Ledger.Databases.Doubled = 1 },
		"another tenant's row":  func(r *Result) { r.Ledger.ReadForeign = 1 },
		"no request":            func(r *Result) { r.Ledger.Requests = 0 },
		"no audit":              func(r *Result) { r.Ledger.API.Checked = 0 },
		"one move":              func(r *Result) { r.Moves = r.Moves[:1] },
		"no move":               func(r *Result) { r.Moves = nil },
		"empty move":            func(r *Result) { r.Moves[1].Rows = 0 },
		"pause not measured":    func(r *Result) { r.Moves[1].ClientPause = 0 },
		"move not verified":     func(r *Result) { r.Moves[0].VerifiedFinal = move.NotVerified },
		"move differs":          func(r *Result) { r.Moves[0].VerifiedCopy = move.Mismatch },
		"at the wrong place":    func(r *Result) { r.EndsOn = toShard },
		"node was never away":   func(r *Result) { r.NodeAway = 0 },
		"node's absence unseen": func(r *Result) { r.Ledger.TurnedAway = 0 },
		"nothing was done":      func(r *Result) { *r = Result{} },
	} {
		r := good()
		spoil(&r)
		require.ErrorIs(t, r.verdict(), ErrUnsound, name)
		require.NotEmpty(t, r.Wrong, name)
		var out bytes.Buffer
		r.Print(&out)
		require.Contains(t, out.String(), "WRONG:", name)
		require.NotContains(t, out.String(), "All is well.", name)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, number(n))
	}
}
