package erase_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/copies/copiestest"
	"github.com/freehold-db/freehold/controlplane/erase"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { copiestest.Main(m) }

// export makes a copy and hands its file out.
func export(w *copiestest.World, id shardmap.TenantID) (copies.ExportReceipt, []byte) {
	w.T.Helper()
	op, err := w.Copies.Export(w.T.Context(), id, 0, copiestest.Tester, "")
	require.NoError(w.T, err)
	var rec copies.ExportReceipt
	w.Done(op, &rec)
	_, f, err := w.Copies.Content(w.T.Context(), rec.Copy, copiestest.Tester)
	require.NoError(w.T, err)
	defer f.Close()
	sent, err := io.ReadAll(f)
	require.NoError(w.T, err)
	return rec, sent
}

// certified reads the certificate and verifies it with the fleet's key.
func certified(w *copiestest.World, id shardmap.TenantID) (erase.Certificate, string) {
	w.T.Helper()
	e, err := w.Erase.Certificate(w.T.Context(), id)
	require.NoError(w.T, err)
	key, err := w.Erase.PublicKey(w.T.Context())
	require.NoError(w.T, err)
	c, err := erase.Verify([]byte(e.Certificate), key)
	require.NoError(w.T, err)
	return c, e.Certificate
}

// Nothing of an erased tenant is left or comes back, and the certificate says so.
func TestErase(t *testing.T) {
	t.Parallel()
	w := copiestest.New(t, "a", "b")
	db := w.Tenant("acme", "a")
	_, _, err := w.Access.CreateKey(t.Context(), "acme", access.KeySpec{Role: "viewer"}, copiestest.Tester)
	require.NoError(t, err)
	rec, sent := export(w, "acme")
	// A leftover of a move, in its grace, on another shard.
	leftover(w, "acme", "b", db)

	_, err = w.Erase.Erase(t.Context(), "acme", catalog.Actor{Name: "ann"}, "")
	require.ErrorIs(t, err, erase.ErrInvalid)
	by := catalog.Actor{Name: "ann", Role: "admin", Reason: "GDPR <17>"}
	op, err := w.Erase.Erase(t.Context(), "acme", by, "k")
	require.NoError(t, err)
	again, err := w.Erase.Erase(t.Context(), "acme", by, "k")
	require.NoError(t, err)
	require.Equal(t, op.ID, again.ID)
	var receipt erase.Receipt
	w.Done(op, &receipt)

	for _, on := range []shardmap.ShardID{"a", "b"} {
		require.Zero(t, w.Left(on, db), on)
	}
	_, _, err = w.Secrets.Get(t.Context(), secret.DatabaseAuth(db))
	require.ErrorIs(t, err, secret.ErrNotFound)
	files, err := os.ReadDir(w.Dir)
	require.NoError(t, err)
	require.Empty(t, files)
	tomb, err := w.Store.GetTenant(t.Context(), "acme")
	require.NoError(t, err)
	require.NotNil(t, tomb.ErasedAt)
	require.NotNil(t, tomb.PurgedAt)
	require.Empty(t, tomb.DisplayName)
	doc, err := w.Access.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	require.Empty(t, doc.Keys)
	ops, _, err := w.Engine.List(t.Context(), operation.Filter{Tenant: "acme"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, ops, 1, "what was done before is forgotten, but by the audit log")

	// No way back.
	_, err = w.Copies.Receive(t.Context(), "acme", bytes.NewReader(sent), 0, copiestest.Tester)
	require.ErrorIs(t, err, catalog.ErrErased)
	_, err = w.Copies.Import(t.Context(), copies.ImportRequest{Copy: rec.Copy, Tenant: "acme2"}, copiestest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrErased)
	_, err = w.Copies.Export(t.Context(), "acme", 0, copiestest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrErased)
	_, err = w.Tenants.Restore(t.Context(), "acme", copiestest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.Tenants.Create(t.Context(), provision.CreateSpec{ID: "acme"}, copiestest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrExists)
	_, err = w.Erase.Erase(t.Context(), "acme", by, "another")
	require.ErrorIs(t, err, catalog.ErrErased)
	_, _, err = w.Secrets.DataKey(t.Context(), "acme")
	require.ErrorIs(t, err, secret.ErrDestroyed)

	c, text := certified(w, "acme")
	require.Equal(t, by.Reason, c.Reason)
	require.Equal(t, "ann", c.RequestedBy)
	require.Equal(t, 1, c.APIKeys)
	require.Len(t, c.Places, 2)
	for _, p := range c.Places {
		require.Equal(t, db, p.Database)
		require.False(t, p.DestroyedAt.Before(*c.Key.DestroyedAt), "the key goes first")
	}
	require.Len(t, c.Copies, 1)
	require.Equal(t, "handed out", c.Copies[0].Where)
	require.Equal(t, rec.SHA256, c.Copies[0].SHA256)
	require.JSONEq(t, `{"size":7}`, string(c.Audit))
	require.Equal(t, c.Places, receipt.Places)
	verifies(t, w, text)
}

// leftover plants what a move leaves behind: a fenced database with the tenant's roles, in its grace.
func leftover(w *copiestest.World, id shardmap.TenantID, on shardmap.ShardID, db string) {
	w.T.Helper()
	require.NoError(w.T, shard.CreateTarget(w.T.Context(), w.Conn(w.Placement(id).Shard, "postgres"), w.Conn(on, "postgres"), db))
	_, err := w.Store.Pool().Exec(w.T.Context(), `insert into databases (shard, name, state, tenant, drop_after) values ($1, $2, 'retired', $3, clock_timestamp() + interval '1 day')`, on, db, id)
	require.NoError(w.T, err)
}

// A tenant whose move soaks lives at two places with a link between them: both go, and the link keeps nobody.
func TestEraseWhileAMoveSoaks(t *testing.T) {
	t.Parallel()
	w := copiestest.New(t, "a", "b")
	w.Beside(w.Moves.Run) // looks after the soak
	db := w.Tenant("acme", "a")
	w.AsOwner("a", db, `CREATE TABLE followed (id int PRIMARY KEY); INSERT INTO followed SELECT generate_series(1, 100)`)
	op, err := w.Moves.Move(t.Context(), move.Request{Tenant: "acme", To: "b", MaxPause: 15 * time.Second, Soak: time.Hour}, copiestest.Tester, "")
	require.NoError(t, err)
	w.Done(op, nil)
	soak, err := w.Store.LiveSoak(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, catalog.Soaking, soak.State)
	// The link is in use: what is written at home arrives at the old place.
	w.AsOwner("b", db, `INSERT INTO followed VALUES (101)`)
	pgtest.Eventually(t, "the old place follows", func() (arrived bool) {
		require.NoError(t, w.Conn("a", db).QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM public.followed WHERE id = 101)`).Scan(&arrived))
		return arrived
	})

	op, err = w.Erase.Erase(t.Context(), "acme", copiestest.Tester, "")
	require.NoError(t, err)
	w.Done(op, nil)
	c, _ := certified(w, "acme")
	require.Len(t, c.Places, 2)
	for _, on := range []shardmap.ShardID{"a", "b"} {
		require.Zero(t, w.Left(on, db), on)
		var links int
		require.NoError(t, w.Conn(on, "postgres").QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE $1 || '%')
			+ (SELECT count(*) FROM pg_subscription WHERE subname LIKE $1 || '%')`, soak.Link).Scan(&links))
		require.Zero(t, links, on)
	}
	_, err = w.Store.LiveSoak(t.Context(), "acme")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = w.Moves.Reverse(t.Context(), move.ReverseRequest{Operation: soak.Operation}, copiestest.Tester, "")
	require.Error(t, err)
}

// verifies: the signature holds for the text, however it is laid out, and for no other.
func verifies(t *testing.T, w *copiestest.World, text string) {
	t.Helper()
	key, err := w.Erase.PublicKey(t.Context())
	require.NoError(t, err)
	parsed, err := erase.ParsePublicKey(erase.PublicKey(key) + "\n")
	require.NoError(t, err)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, []byte(text)))
	_, err = erase.Verify(compact.Bytes(), parsed)
	require.NoError(t, err)
	_, err = erase.Verify([]byte(strings.Replace(text, `"acme"`, `"bank"`, 1)), key)
	require.ErrorIs(t, err, erase.ErrSignature)
	other, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, err = erase.Verify([]byte(text), other)
	require.ErrorIs(t, err, erase.ErrOtherKey)
	for _, bad := range []string{"", "{}", "[]", text + "{}", strings.Replace(text, "Ed25519", "none", 1), strings.Replace(text, `"signature"`, `"x": 1, "signature"`, 1)} {
		_, err = erase.Verify([]byte(bad), key)
		require.ErrorIs(t, err, erase.ErrNotCertificate, bad)
	}
}

// Wherever a worker is killed, the next one goes on, and at no point is there a way back.
func TestWorkerKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := copiestest.New(t, "a")
	points := []string{"condemn/committed", "key/committed", "drop/end", "certify/committed"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		points = append(points, "shut/end", "key/begin", "drop/begin", "forget/end", "certify/begin")
	}
	for i, point := range points {
		id := shardmap.TenantID("mortal-" + string(rune('a'+i)))
		db := w.Tenant(id, "a")
		_, sent := export(w, id)
		w.Stop()
		op, err := w.Erase.Erase(t.Context(), id, copiestest.Tester, "")
		require.NoError(t, err)
		w.KilledAt(erase.Kind + "/" + point)
		_, err = w.Engine.Cancel(t.Context(), op.ID, copiestest.Tester)
		require.Error(t, err, point)
		_, err = w.Copies.Receive(t.Context(), id, bytes.NewReader(sent), 0, copiestest.Tester)
		require.ErrorIs(t, err, catalog.ErrErased, point)
		_, err = w.Tenants.Restore(t.Context(), id, copiestest.Tester, "")
		require.Error(t, err, point)
		w.Work()
		w.Done(op, nil)
		require.Zero(t, w.Left("a", db), point)
		c, _ := certified(w, id)
		require.Len(t, c.Places, 1, point)
		require.Len(t, c.Copies, 1, point)
	}
}

// A shard that is away is waited for; meanwhile no certificate is issued, though the key is gone.
func TestShardAway(t *testing.T) {
	t.Parallel()
	w := copiestest.New(t, "a", "b")
	db := w.Tenant("acme", "a")
	leftover(w, "acme", "b", db)
	_, sent := export(w, "acme")
	path := secret.ShardAdmin("b")
	login, version, err := w.Secrets.Get(t.Context(), path)
	require.NoError(t, err)
	wrong := login
	wrong.Password = "nobody gets in"
	version, err = w.Secrets.Put(t.Context(), path, wrong, version)
	require.NoError(t, err)

	op, err := w.Erase.Erase(t.Context(), "acme", copiestest.Tester, "")
	require.NoError(t, err)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(op.Progress.Waiting, "to be dropped on b"); {
		require.True(t, time.Now().Before(deadline), "state %s, step %s: %s", op.State, op.Step, op.Error)
		time.Sleep(10 * time.Millisecond)
		op, err = w.Engine.Get(t.Context(), op.ID)
		require.NoError(t, err)
	}
	require.Zero(t, w.Left("a", db))
	_, err = w.Erase.Certificate(t.Context(), "acme")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = w.Copies.Receive(t.Context(), "acme", bytes.NewReader(sent), 0, copiestest.Tester)
	require.ErrorIs(t, err, catalog.ErrErased)

	_, err = w.Secrets.Put(t.Context(), path, login, version)
	require.NoError(t, err)
	w.Done(op, nil)
	require.Zero(t, w.Left("b", db))
	c, _ := certified(w, "acme")
	require.Len(t, c.Places, 2)
}
