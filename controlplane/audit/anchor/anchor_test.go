package anchor_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// shards are servers that can keep checkpoints; nothing else is in them.
func shards(t *testing.T, ids ...shardmap.ShardID) *shard.Fleet {
	t.Helper()
	secrets, err := secret.OpenDir(t.TempDir())
	require.NoError(t, err)
	rows := shardtest.Rows{}
	for _, id := range ids {
		server := shardtest.Server(t, id)
		rows[id] = shardtest.Row(id, server)
		_, err = secrets.Put(t.Context(), secret.ShardAdmin(string(id)), server.Admin, 0)
		require.NoError(t, err)
	}
	fleet := shard.New(rows, secrets, pgtest.Channel(t))
	for _, id := range ids { // a server that a run before has used keeps that one's checkpoints
		conn, err := fleet.Admin(t.Context(), id, "postgres")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "DROP SCHEMA IF EXISTS freehold_audit CASCADE")
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
	}
	return fleet
}

func TestAShardKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	fleet := shards(t, "b")
	ctx := t.Context()
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs { // replicas, all of whom find no table
		wg.Go(func() { errs[i] = fleet.KeepCheckpoint(ctx, "b", 5, "five") })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, fleet.KeepCheckpoint(ctx, "b", 5, "another five"))
	require.NoError(t, fleet.KeepCheckpoint(ctx, "b", 3, "three"))
	kept, err := fleet.Checkpoints(ctx, "b", shard.Checkpoint{}, 5, 2)
	require.NoError(t, err)
	require.Equal(t, []shard.Checkpoint{{Size: 3, Note: "three"}, {Size: 5, Note: "another five"}}, kept)
	kept, err = fleet.Checkpoints(ctx, "b", kept[1], 5, 2)
	require.NoError(t, err)
	require.Equal(t, []shard.Checkpoint{{Size: 5, Note: "five"}}, kept)
	notes, err := fleet.NewestCheckpoints(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, []string{"another five", "five"}, notes)
	conn, err := fleet.Admin(ctx, "b", "postgres")
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{"DELETE FROM freehold_audit.checkpoints", "UPDATE freehold_audit.checkpoints SET size = 1", "TRUNCATE freehold_audit.checkpoints"} {
		_, err := conn.Exec(ctx, sql)
		require.Error(t, err, sql)
	}
}

// away is a place that does not answer.
type away struct{}

func (away) Name() string                              { return "away" }
func (away) Keep(context.Context, int64, string) error { return errors.New("no route") }
func (away) Newest(context.Context) ([]proof.Anchor, error) {
	return nil, errors.New("no route")
}
func (away) Held(context.Context, int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", errors.New("no route")) }
}

func TestAPlaceThatIsAwayIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(3)
	k := w.with(away{}, anchor.Directory(w.dir))
	require.ErrorContains(t, k.Anchor(w.ctx), "away: no route")
	r := w.verify(k)
	require.Equal(t, proof.Incomplete, r.Verdict)
	require.Contains(t, r.Missing, "anchor away could not be asked: no route")
	// A stream that somebody set up to forget is no witness.
	cfg := access.AuditLogStreamConfig(1, access.AuditLogBounds{})
	cfg.MaxMsgs, cfg.Discard = 1, jetstream.DiscardOld
	_, err := w.js.UpdateStream(w.ctx, cfg)
	require.NoError(t, err)
	r = w.verify(w.with(w.stream))
	require.Equal(t, proof.Incomplete, r.Verdict)
}

func TestReplicasAnchorTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(30)
	keepers := []*anchor.Keeper{w.keeper, w.with(w.stream, anchor.Directory(w.dir)), w.with(w.stream, anchor.Directory(w.dir))}
	var wg sync.WaitGroup
	for _, k := range keepers {
		wg.Go(func() {
			if err := errors.Join(k.Anchor(w.ctx), w.stream.Copy(w.ctx, w.log)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r := w.verify(w.keeper)
	require.Equal(t, proof.Sound, r.Verdict, "%+v", r)
	// A stream that was lost is made again from the log.
	require.NoError(t, w.js.DeleteStream(w.ctx, access.AuditLogStream))
	for range 3 {
		wg.Go(func() {
			if err := w.stream.Copy(w.ctx, w.log); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, proof.Sound, w.verify(w.keeper).Verdict)
}

func read(path string) (notes []string, err error) {
	for n, err := range anchor.Notes(path) {
		if err != nil {
			return notes, err
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// Whatever somebody called the files, they come in the order of their sizes.
func TestNotesComeInOrder(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signer, err := proof.NewSigner("freehold-audit/x", key)
	require.NoError(t, err)
	var want []string
	for size, name := range map[int64]string{100: "a", 20: "monday", 3: "00000000000000000003-ab"} {
		note, err := signer.Sign(size, tlog.Hash{})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".checkpoint"), note, 0o600))
	}
	for _, size := range []int64{3, 20, 100} {
		note, err := signer.Sign(size, tlog.Hash{})
		require.NoError(t, err)
		want = append(want, string(note))
	}
	got, err := read(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)
	newest, err := anchor.Directory(dir).Newest(t.Context())
	require.NoError(t, err)
	require.Equal(t, []proof.Anchor{{Checkpoint: want[2]}}, newest)
}

// The directory is read, and a stopping replica signs what came last.
func TestARunEndsWithACheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(3)
	ctx, stop := context.WithCancel(w.ctx)
	stop()
	dir := t.TempDir()
	require.NoError(t, w.with(anchor.Directory(dir)).Run(ctx))
	notes, err := read(dir)
	require.NoError(t, err)
	require.Len(t, notes, 1)
	files, err := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
	require.NoError(t, err)
	one, err := read(files[0])
	require.NoError(t, err)
	require.Equal(t, notes, one)
	require.NoError(t, os.WriteFile(files[0], []byte("x"), 0o600))
	_, err = read(dir)
	require.ErrorIs(t, err, proof.ErrMalformed)
}

// A new key signs from where it comes in on, and both are good where they signed.
func TestKeysChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(4)
	old := w.keeper
	origin, err := w.log.Origin(w.ctx)
	require.NoError(t, err)
	first := w.signer
	w.signer, err = proof.NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize)))
	require.NoError(t, err)
	w.keeper = w.with(w.stream, anchor.Directory(w.dir))
	w.write(4)
	keys, err := w.log.Keys(w.ctx)
	require.NoError(t, err)
	require.Equal(t, proof.Keys{{Verifier: first.VerifierKey(), From: 1, Until: 4}, {Verifier: w.signer.VerifierKey(), From: 5}}, keys)
	require.NoError(t, old.Anchor(w.ctx), "a replica that has the old key carries on what the others sign")
	verify := func(keys proof.Keys) proof.Verdict {
		return proof.Verify(w.log.Export(w.ctx, audit.SourceOf(w.store), w.keeper.Witness()), keys).Verdict
	}
	require.Equal(t, proof.Sound, verify(keys))
	require.Equal(t, proof.Tampered, verify(keys[:1]))
	require.Equal(t, proof.Tampered, verify(keys[1:]))
}

// Of two replicas the one that signed first may be the later one at a place. In
// the stream, which keeps the order in which things came, too: that is no reason to doubt it.
func TestAPlaceIsHandedCheckpointsOutOfTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(10)
	w.write(10)
	var notes []string
	for note, err := range w.stream.Held(w.ctx, 20) {
		require.NoError(t, err)
		notes = append(notes, note)
	}
	require.Len(t, notes, 2)
	for _, note := range notes {
		_, err := w.js.Publish(w.ctx, access.AuditLogCheckpoints, []byte(note))
		require.NoError(t, err)
	}
	r := w.verify(w.keeper)
	require.Equal(t, proof.Sound, r.Verdict, "%+v", r)
	require.Equal(t, map[string]int{"stream": 5, "directory": 2}, r.Anchored)
}
