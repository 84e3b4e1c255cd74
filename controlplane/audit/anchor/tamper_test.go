package anchor_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/internal/access"
)

func set(name, value string) func(map[string]any) {
	return func(leaf map[string]any) {
		leaf["record"].(map[string]any)["Actor"].(map[string]any)[name] = value //nolint:forcetypeassert // fails the test
	}
}

// What a superuser of the audit database can do to it, who knows how it is
// made and may have the signing key: each is found, in 20 records of which the
// first 10 were signed before the others came.
func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tamper func(w *world)
		kinds  string // one of which is found
	}{
		{"an entry is changed", func(w *world) { w.edit(7, set("Reason", "none of your business")) }, "entry"},
		{"an entry is changed, and the tree made anew", func(w *world) {
			w.edit(7, set("Reason", "none of your business"))
			w.rebuild()
		}, "root"},
		{"an entry is changed with its columns, and everything signed anew", func(w *world) {
			w.edit(7, set("Name", "somebody else"))
			w.exec(`update audit_log set actor = 'somebody else' where position = 7`)
			w.rebuild()
			w.resign()
		}, "root"},
		{"one is removed", func(w *world) { w.exec(`delete from audit_log where position = 12`) }, "gap"},
		{"the first is removed", func(w *world) { w.exec(`delete from audit_log where position = 1`) }, "gap"},
		{"one is removed, and the others closed up", func(w *world) {
			w.exec(`delete from audit_log where position = 12`)
			w.renumber(12)
			w.rebuild()
			w.resign()
		}, "size"},
		{"the end is cut off", func(w *world) { w.cut(15) }, "size"},
		{"the end is cut off, and the checkpoint of before is put back as the last", func(w *world) {
			w.cut(10)
			w.exec(`delete from audit_checkpoints where size > 10`)
		}, "size"},
		{"two are exchanged", func(w *world) {
			w.exec(`update audit_log set position = 1000 where position = 5`)
			w.exec(`update audit_log set position = 5 where position = 6`)
			w.exec(`update audit_log set position = 6 where position = 1000`)
		}, "order"},
		{"two are exchanged with their numbers, and the tree made anew", func(w *world) {
			w.swap(5, 6)
			w.rebuild()
		}, "root"},
		{"one is put in at the end", func(w *world) {
			w.forge(21, 21)
			w.rebuild()
			_, err := w.log.Sign(w.ctx, w.signer, proof.Checkpoint{})
			require.NoError(w.t, err)
		}, "source"},
		{"one is put in between", func(w *world) {
			w.exec(`update audit_log set position = position + 1000, sequence = sequence + 1000 where position >= 12`)
			w.exec(`update audit_log set position = position - 999, sequence = sequence - 999 where position > 1000`)
			w.forge(12, 12)
			w.renumber(13)
			w.rebuild()
			w.resign()
		}, "root"},
		{"a column is changed", func(w *world) { w.exec(`update audit_log set tenant = 'beta' where position = 7`) }, "columns"},
		{"a hash of the tree is changed", func(w *world) {
			w.exec(`update audit_tree set hash = sha256('x') where index = $1`, tlog.StoredHashIndex(2, 1))
		}, "tree"},
		{"a checkpoint is another's", func(w *world) {
			w.exec(`update audit_checkpoints set note = replace(note, '10', '11') where size = 10`)
		}, "signature"},
		{"another key is slipped in", func(w *world) {
			w.exec(`insert into audit_keys (verifier, from_size) values ($1, 21)`, strings.Replace(w.signer.VerifierKey(), "+", "+0", 1))
		}, "key"},
		{"the sequence of the source is numbered anew", func(w *world) {
			w.exec(`delete from audit_log where position > 18`)
			w.exec(`update audit_log set sequence = sequence + 2 where position > 16`)
			for p := int64(17); p <= 18; p++ {
				w.edit(p, func(leaf map[string]any) { leaf["sequence"] = p + 2 })
			}
			w.rebuild()
			w.resign()
		}, "sequence"},
		{"the stream's copy is another", func(w *world) {
			require.NoError(w.t, w.js.DeleteStream(w.ctx, access.AuditLogStream))
			_, err := w.js.CreateStream(w.ctx, access.AuditLogStreamConfig(1, access.AuditLogBounds{}))
			require.NoError(w.t, err)
			texts, err := w.log.Records(w.ctx, 0, 100)
			require.NoError(w.t, err)
			texts[3] = strings.Replace(texts[3], "actor1", "actor9", 1)
			w.copies(1, texts)
		}, "root"},
		{"a checkpoint in the directory is changed", func(w *world) {
			files, err := filepath.Glob(filepath.Join(w.dir, "*"))
			require.NoError(w.t, err)
			require.NoError(w.t, os.WriteFile(files[0], []byte("freehold-audit/x\n10\n"+strings.Repeat("A", 43)+"=\n\n"), 0o600))
		}, "signature"},
		{"the catalog's count is set back", func(w *world) {
			_, err := w.store.Pool().Exec(w.ctx, `update audit_sequence set last = 3`)
			require.NoError(w.t, err)
		}, "source"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write(10)
			w.write(10)
			r := w.verify(w.keeper)
			require.Equal(t, proof.Sound, r.Verdict, "%+v", r)
			require.EqualValues(t, 20, r.Records)
			require.Equal(t, map[string]int{"stream": 3, "directory": 2}, r.Anchored)
			c.tamper(w)
			r = w.verify(w.keeper)
			require.Equal(t, proof.Tampered, r.Verdict, "%+v", r)
			kinds := map[string]bool{}
			for _, p := range r.Problems {
				kinds[p.Kind] = true
			}
			require.True(t, kinds[c.kinds], "%+v", r.Problems)
		})
	}
}

// copies puts records into the stream as if they were those from a position on.
func (w *world) copies(from int, texts []string) {
	w.t.Helper()
	for i, text := range texts {
		m := nats.NewMsg(access.AuditLogRecords)
		m.Header.Set(access.AuditLogPosition, strconv.Itoa(from+i))
		m.Data = []byte(text)
		_, err := w.js.PublishMsg(w.ctx, m)
		require.NoError(w.t, err)
	}
}

// renumber has what records say of their place agree with where they are, from a position on.
func (w *world) renumber(from int64) {
	for p := from; ; p++ {
		tag, err := w.super().Exec(w.ctx, `update audit_log set position = $1, sequence = $1 where position = (select min(position) from audit_log where position >= $1)`, p)
		require.NoError(w.t, err)
		if tag.RowsAffected() == 0 {
			return
		}
		w.edit(p, func(leaf map[string]any) { leaf["position"], leaf["sequence"] = p, p })
	}
}

// cut removes all after a position.
func (w *world) cut(after int64) {
	w.exec(`delete from audit_log where position > $1`, after)
	w.rebuild()
}

// swap exchanges two neighbours, as if they had come the other way round.
func (w *world) swap(a, b int64) {
	w.exec(`update audit_log set position = 1000, sequence = 1000 where position = $1`, a)
	w.exec(`update audit_log set position = $2, sequence = $2 where position = $1`, b, a)
	w.exec(`update audit_log set position = $1, sequence = $1 where position = 1000`, b)
	for _, p := range []int64{a, b} {
		w.edit(p, func(leaf map[string]any) { leaf["position"], leaf["sequence"] = p, p })
	}
}

// forge adds a record that nobody wrote.
func (w *world) forge(position, sequence int64) {
	w.exec(`insert into audit_log (position, source, sequence, logged_at, tenant, actor, action, happened, entry)
		select $1, source, $2, logged_at, tenant, actor, action, happened, entry from audit_log where position = 3`, position, sequence)
	w.edit(position, func(leaf map[string]any) { leaf["position"], leaf["sequence"] = position, sequence })
}

// Who made everything anew and signed it with the stolen key meets each place by itself.
func TestOnePlaceIsEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fleet := shards(t, "a")
	places := map[string]anchor.Place{"stream": w.stream, "directory": anchor.Directory(w.dir), "shard/a": anchor.Shard(fleet, "a")}
	w.keeper = w.with(places["stream"], places["directory"], places["shard/a"])
	w.write(10)
	require.Equal(t, proof.Sound, w.verify(w.keeper).Verdict)
	w.edit(7, set("Reason", "none of your business"))
	w.rebuild()
	w.resign()
	require.Empty(t, w.verify(w.with()).Problems, "without a place nobody would know")
	require.Equal(t, proof.Incomplete, w.verify(w.with()).Verdict)
	for name, p := range places {
		r := w.verify(w.with(p))
		require.Equal(t, proof.Tampered, r.Verdict, name)
		require.Contains(t, r.Problems[0].Text, name)
	}
	// Nor does the keeper who saw it before sign what is there now.
	require.ErrorIs(t, w.keeper.Anchor(w.ctx), audit.ErrTampered)
}
