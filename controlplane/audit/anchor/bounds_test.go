package anchor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/internal/access"
)

// remade makes the stream anew with bounds, and with the log's records from one
// on in it, as if those before had gone.
func (w *world) remade(b access.AuditLogBounds, from int) {
	w.t.Helper()
	require.NoError(w.t, w.js.DeleteStream(w.ctx, access.AuditLogStream))
	_, err := w.js.CreateStream(w.ctx, access.AuditLogStreamConfig(1, b))
	require.NoError(w.t, err)
	texts, err := w.log.Records(w.ctx, int64(from-1), 1000)
	require.NoError(w.t, err)
	w.copies(from, texts)
}

// age has records up to one be logged long ago, and everything after it signed anew: a log that is old.
func (w *world) age(upTo int64) {
	w.t.Helper()
	const long = 200 * 24 * time.Hour
	rows, err := w.super().Query(w.ctx, `select position from audit_log where position <= $1`, upTo)
	require.NoError(w.t, err)
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(w.t, err)
	w.exec(`update audit_log set logged_at = logged_at - $2::interval where position <= $1`, upTo, long)
	for _, p := range positions {
		var at time.Time
		require.NoError(w.t, w.super().QueryRow(w.ctx, `select logged_at from audit_log where position = $1`, p).Scan(&at))
		w.edit(p, func(leaf map[string]any) { leaf["logged_at"] = at.UTC() })
	}
	w.rebuild()
	w.resign()
}

// A copy that has let go of what is old is held against the log all the same:
// what is left of it, and that it reaches as far back as it is to.
func TestACopyLetsOldRecordsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(20)
	w.age(12)
	verify := func() proof.Report { return w.verify(w.with(w.stream)) }
	w.remade(access.AuditLogBounds{}, 9)
	r := verify()
	require.Empty(t, r.Problems)
	require.Equal(t, map[string]int{"stream": 1}, r.Anchored)

	// A new stream, or one that is empty since nothing was logged for long, begins where its time does.
	require.NoError(t, w.js.DeleteStream(w.ctx, access.AuditLogStream))
	require.NoError(t, w.stream.Copy(w.ctx, w.log))
	stream, err := w.js.Stream(w.ctx, access.AuditLogStream)
	require.NoError(t, err)
	require.EqualValues(t, 8, stream.CachedInfo().State.Msgs)
	require.Empty(t, verify().Problems)

	// NATS' administrator has it keep more from now on: it does not reach back so far yet.
	longer := access.AuditLogStreamConfig(1, access.AuditLogBounds{})
	longer.MaxAge = 365 * 24 * time.Hour
	_, err = w.js.UpdateStream(w.ctx, longer)
	require.NoError(t, err)
	require.Empty(t, verify().Problems)

	// Its beginning is not there although it is young.
	w.remade(access.AuditLogBounds{}, 15)
	require.Contains(t, problems(verify()), "copy the copy of the records at stream begins with record 15")

	// One in the middle is another, or not there.
	texts, err := w.log.Records(w.ctx, 8, 1000)
	require.NoError(t, err)
	for name, spoil := range map[string]func(texts []string) []string{
		"changed": func(texts []string) []string {
			texts[5] = strings.Replace(texts[5], "actor1", "actor9", 1)
			return texts
		},
		"removed": func(texts []string) []string { return append(texts[:5], texts[6:]...) },
		"more":    func(texts []string) []string { return append(texts, texts[0]) },
	} {
		require.NoError(t, w.js.DeleteStream(w.ctx, access.AuditLogStream))
		_, err := w.js.CreateStream(w.ctx, access.AuditLogStreamConfig(1, access.AuditLogBounds{}))
		require.NoError(t, err)
		w.copies(9, spoil(append([]string(nil), texts...)))
		r := verify()
		require.Equal(t, proof.Tampered, r.Verdict, "%s: %+v", name, r)
	}

	// A stream that lets go sooner than it is to is no witness.
	w.remade(access.AuditLogBounds{Keep: time.Hour}, 9)
	r = verify()
	require.Equal(t, proof.Incomplete, r.Verdict)
	require.Contains(t, fmt.Sprint(r.Missing), "set up to let messages go after 1h0m0s")
}

func problems(r proof.Report) string {
	var all []string
	for _, p := range r.Problems {
		all = append(all, p.Kind+" "+p.Text)
	}
	return strings.Join(all, "\n")
}

// A full stream takes nothing more, says so, and has lost nothing of what it had; the log has all.
func TestAFullStreamTakesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(10)
	stream, err := anchor.NewStream(w.nc, anchor.StreamOptions{Bounds: access.AuditLogBounds{MaxBytes: 4 << 10}, Logger: quiet})
	require.NoError(t, err)
	require.Nil(t, stream.State())
	require.NoError(t, stream.Look(w.ctx))
	require.NotNil(t, stream.State())
	require.NoError(t, w.js.DeleteStream(w.ctx, access.AuditLogStream))
	err = stream.Copy(w.ctx, w.log)
	var refused *jetstream.APIError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Description, "maximum bytes exceeded")
	require.Error(t, stream.Copy(w.ctx, w.log))
	require.True(t, stream.State().NearlyFull())
	r := w.verify(w.with(stream))
	require.Empty(t, r.Problems, "what it has agrees")
	require.EqualValues(t, 10, r.Records)

	// More room, which NATS' administrator gives, and it goes on.
	cfg := access.AuditLogStreamConfig(1, access.AuditLogBounds{})
	_, err = w.js.UpdateStream(w.ctx, cfg)
	require.NoError(t, err)
	require.NoError(t, stream.Copy(w.ctx, w.log))
	require.False(t, stream.State().NearlyFull())
	require.Equal(t, proof.Sound, w.verify(w.with(stream)).Verdict)
}
