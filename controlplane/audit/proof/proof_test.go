package proof_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
)

const origin = "freehold-audit/test"

func signer(t testing.TB, seed byte) *proof.Signer {
	t.Helper()
	s, err := proof.NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	require.NoError(t, err)
	return s
}

// hashes are a stored tree.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, i := range indexes {
		found = append(found, h[i])
	}
	return found, nil
}

func TestFrontierIsTheTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 300).Draw(t, "records")
		var stored hashes
		var f proof.Frontier
		for i := range n {
			text := []byte(fmt.Sprint("record ", i))
			want, err := tlog.StoredHashes(i, text, stored)
			require.NoError(t, err)
			got := f.Append(tlog.RecordHash(text))
			require.Equal(t, want, got)
			require.EqualValues(t, len(stored), tlog.StoredHashIndex(0, i))
			stored = append(stored, got...)
		}
		root, err := tlog.TreeHash(n, stored)
		require.NoError(t, err)
		require.Equal(t, root, f.Root())
		again, err := proof.OpenFrontier(n, stored)
		require.NoError(t, err)
		require.Equal(t, root, again.Root())
		more := tlog.RecordHash([]byte("more"))
		require.Equal(t, f.Append(more), again.Append(more))
		require.Equal(t, f.Root(), again.Root())
	})
}

func TestKeysAreGoodForTheirRange(t *testing.T) {
	t.Parallel()
	first, second := signer(t, 1), signer(t, 2)
	keys, err := proof.ParseKeys("# of the log\n" + first.VerifierKey() + " 0 10\n\n" + second.VerifierKey() + " 11 # since the change\n")
	require.NoError(t, err)
	again, err := proof.ParseKeys(keys.String())
	require.NoError(t, err)
	require.Equal(t, keys, again)
	root := tlog.RecordHash([]byte("x"))
	for _, c := range []struct {
		by   *proof.Signer
		size int64
		good bool
	}{{first, 1, true}, {first, 10, true}, {first, 11, false}, {second, 10, false}, {second, 11, true}, {signer(t, 3), 5, false}} {
		signed, err := c.by.Sign(c.size, root)
		require.NoError(t, err)
		got, err := keys.Open(signed)
		if !c.good {
			require.ErrorIs(t, err, proof.ErrSignature)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, proof.Checkpoint{Origin: origin, Size: c.size, Root: root}, got)
		changed := bytes.Replace(signed, fmt.Appendf(nil, "\n%d\n", c.size), fmt.Appendf(nil, "\n%d\n", c.size-1), 1)
		_, err = keys.Open(changed)
		require.ErrorIs(t, err, proof.ErrSignature)
	}
	for _, bad := range []string{"", "x", first.VerifierKey() + " a", first.VerifierKey() + " 1 2 3", first.VerifierKey() + " -1"} {
		_, err := proof.ParseKeys(bad)
		require.ErrorIs(t, err, proof.ErrMalformed, bad)
	}
}

func FuzzOpen(f *testing.F) {
	s := signer(f, 1)
	signed, err := s.Sign(7, tlog.RecordHash([]byte("x")))
	require.NoError(f, err)
	f.Add(signed)
	f.Add([]byte("a\n01\n\n\n"))
	keys := proof.Keys{{Verifier: s.VerifierKey()}}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := keys.Open(text)
		if err != nil {
			return
		}
		again, err := s.Sign(c.Size, c.Root)
		require.NoError(t, err)
		// What was signed begins with what is read; nobody else signs.
		require.True(t, bytes.HasPrefix(text, again[:bytes.Index(again, []byte("\n\n"))]))
	})
}

// export is a sound one of n records, in a form that a test can spoil.
func export(t testing.TB, s *proof.Signer, n int64) []proof.Line {
	t.Helper()
	var entries []proof.Line
	var f proof.Frontier
	var stored hashes
	for i := range n {
		e := proof.Entry{Position: i + 1, Source: "c1", Sequence: i + 1, LoggedAt: time.Unix(1000+600*i, 0).UTC(), Tenant: "acme", Actor: "op", Action: "tenant.move", Happened: time.Unix(900+i, 0).UTC()}
		text, err := json.Marshal(map[string]any{"position": e.Position, "source": e.Source, "sequence": e.Sequence, "logged_at": e.LoggedAt,
			"record": map[string]any{"Actor": map[string]any{"Name": e.Actor}, "Action": e.Action, "Tenant": e.Tenant, "Time": e.Happened}})
		require.NoError(t, err)
		e.Leaf = string(text)
		e.Tree = f.Append(tlog.RecordHash(text))
		stored = append(stored, e.Tree...)
		entries = append(entries, proof.Line{Entry: &e})
	}
	root := f.Root()
	signed, err := s.Sign(n, root)
	require.NoError(t, err)
	half, err := tlog.TreeHash(n/2, stored)
	require.NoError(t, err)
	early, err := s.Sign(n/2, half)
	require.NoError(t, err)
	one := 1
	lines := []proof.Line{
		{Key: &proof.Key{Verifier: s.VerifierKey()}},
		{Checkpoint: string(early)}, {Checkpoint: string(signed)},
		{Anchor: &proof.Anchor{Name: "shard/s1", Checkpoint: string(early)}}, {Anchor: &proof.Anchor{Name: "shard/s1", Held: &one}},
		{Anchor: &proof.Anchor{Name: "stream", Records: n, Root: &root}},
		{Source: &proof.Source{Source: "c1", Sent: n, Written: n}},
	}
	lines = append(lines, entries...)
	return append(lines, proof.Line{Source: &proof.Source{Source: "c1", Sent: n, Written: n}}, proof.Line{End: &proof.ExportDone{Records: n}})
}

func each(lines []proof.Line) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		for _, l := range lines {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	s, stranger := signer(t, 1), signer(t, 2)
	keys := proof.Keys{{Verifier: s.VerifierKey()}}
	const n, head = 20, 7 // head: lines before the first entry
	at := func(lines []proof.Line, position int) *proof.Entry { return lines[head+position-1].Entry }
	for _, c := range []struct {
		name    string
		spoil   func(l []proof.Line) []proof.Line
		verdict proof.Verdict
		says    string // of a problem's kind or of what is missing
	}{
		{"sound", func(l []proof.Line) []proof.Line { return l }, proof.Sound, ""},
		{"cut off", func(l []proof.Line) []proof.Line { return l[:len(l)-3] }, proof.Incomplete, "cut off"},
		{"an anchor away", func(l []proof.Line) []proof.Line {
			l[3].Anchor = &proof.Anchor{Name: "shard/s1", Unreachable: "no route"}
			return l
		}, proof.Incomplete, "no route"},
		{"anchors left out", func(l []proof.Line) []proof.Line { return slices.Delete(l, 3, 6) }, proof.Incomplete, "no anchor"},
		{"an anchor's checkpoint left out", func(l []proof.Line) []proof.Line { return slices.Delete(l, 3, 4) }, proof.Incomplete, "holds 1"},
		{"an anchor emptied", func(l []proof.Line) []proof.Line {
			none := 0
			l[4].Anchor.Held = &none
			return slices.Delete(l, 3, 4)
		}, proof.Incomplete, "shard/s1 holds nothing"},
		{"nobody signs any more", func(l []proof.Line) []proof.Line { return slices.Delete(l, 2, 3) }, proof.Incomplete, "nothing was signed after record 10"},
		{"records wait", func(l []proof.Line) []proof.Line { l[6].Source.Waiting = 4000; return l }, proof.Incomplete, "waited"},
		{"changed", func(l []proof.Line) []proof.Line {
			at(l, 12).Leaf = strings.Replace(at(l, 12).Leaf, `"op"`, `"no"`, 1)
			at(l, 12).Actor = "no"
			return l
		}, proof.Tampered, "entry"},
		{"a column", func(l []proof.Line) []proof.Line { at(l, 12).Tenant = "beta"; return l }, proof.Tampered, "columns"},
		{"removed", func(l []proof.Line) []proof.Line { return slices.Delete(l, head+3, head+4) }, proof.Tampered, "gap"},
		{"the end removed", func(l []proof.Line) []proof.Line {
			l = slices.Delete(l, head+n-2, head+n)
			l[len(l)-1].End.Records -= 2
			return l
		}, proof.Tampered, "size"},
		{"swapped", func(l []proof.Line) []proof.Line {
			l[head+3], l[head+4] = l[head+4], l[head+3]
			return l
		}, proof.Tampered, "order"},
		{"the stored tree", func(l []proof.Line) []proof.Line { at(l, 8).Tree[3][0] ^= 1; return l }, proof.Tampered, "tree"},
		{"another's signature", func(l []proof.Line) []proof.Line {
			forged, err := stranger.Sign(n, tlog.Hash{})
			require.NoError(t, err)
			l[2].Checkpoint = string(forged)
			return l
		}, proof.Tampered, "signature"},
		{"another's key", func(l []proof.Line) []proof.Line {
			l[0].Key = &proof.Key{Verifier: stranger.VerifierKey()}
			return l
		}, proof.Tampered, "key"},
		{"the copy differs", func(l []proof.Line) []proof.Line { l[5].Anchor.Root[0] ^= 1; return l }, proof.Tampered, "root"},
		{"the source knows of more", func(l []proof.Line) []proof.Line { l[6].Source.Sent++; return l }, proof.Tampered, "source"},
		{"the source knows of fewer", func(l []proof.Line) []proof.Line { l[len(l)-2].Source.Written--; return l }, proof.Tampered, "source"},
	} {
		var text bytes.Buffer
		require.NoError(t, proof.Write(&text, each(c.spoil(export(t, s, n)))), c.name)
		r := proof.Verify(proof.Read(&text), keys)
		require.Equal(t, c.verdict, r.Verdict, "%s: %+v", c.name, r)
		said := strings.Join(r.Missing, "\n")
		for _, p := range r.Problems {
			said += "\n" + p.Kind
		}
		require.Contains(t, said, c.says, c.name)
	}
	r := proof.Verify(proof.Read(strings.NewReader("{}\nx\n")), keys)
	require.Equal(t, proof.Incomplete, r.Verdict)
}

func FuzzRead(f *testing.F) {
	s := signer(f, 1)
	var text bytes.Buffer
	require.NoError(f, proof.Write(&text, each(export(f, s, 3))))
	f.Add(text.Bytes())
	keys := proof.Keys{{Verifier: s.VerifierKey()}}
	f.Fuzz(func(_ *testing.T, b []byte) { proof.Verify(proof.Read(bytes.NewReader(b)), keys) })
}

func TestProofs(t *testing.T) {
	t.Parallel()
	var f proof.Frontier
	var stored hashes
	for i := range 40 {
		stored = append(stored, f.Append(tlog.RecordHash([]byte(fmt.Sprint(i))))...)
	}
	head := proof.Checkpoint{Origin: origin, Size: 40, Root: f.Root()}
	path, err := tlog.ProveRecord(40, 11, stored)
	require.NoError(t, err)
	require.NoError(t, proof.Included(head, 12, "11", path))
	require.ErrorIs(t, proof.Included(head, 12, "12", path), proof.ErrProof)
	require.ErrorIs(t, proof.Included(head, 41, "11", path), proof.ErrProof)
	root, err := tlog.TreeHash(17, stored)
	require.NoError(t, err)
	older := proof.Checkpoint{Origin: origin, Size: 17, Root: root}
	steps, err := tlog.ProveTree(40, 17, stored)
	require.NoError(t, err)
	require.NoError(t, proof.Extends(older, head, steps))
	require.NoError(t, proof.Extends(head, head, nil))
	require.ErrorIs(t, proof.Extends(head, older, nil), proof.ErrProof)
	older.Root[0] ^= 1
	require.ErrorIs(t, proof.Extends(older, head, steps), proof.ErrProof)
}
