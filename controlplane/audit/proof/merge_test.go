package proof_test

import (
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
)

// Checkpoints come before the last record that they are of, whichever sequence
// they are in, so that who reads needs to keep next to none of them.
func TestMergeIsInTurn(t *testing.T) {
	t.Parallel()
	s := signer(t, 1)
	note := func(size int64) string {
		signed, err := s.Sign(size, tlog.Hash{})
		require.NoError(t, err)
		return string(signed)
	}
	entries := func() (l []proof.Line) {
		for p := int64(1); p <= 6; p++ {
			l = append(l, proof.Line{Entry: &proof.Entry{Position: p}})
		}
		return append(l, proof.Line{Source: &proof.Source{}}, proof.Line{End: &proof.ExportDone{Records: 6}})
	}
	held := 3
	place := []proof.Line{{Anchor: &proof.Anchor{Name: "newest", Checkpoint: note(9), Newest: true}}}
	for _, size := range []int64{2, 5, 9} {
		place = append(place, proof.Line{Anchor: &proof.Anchor{Name: "place", Checkpoint: note(size)}})
	}
	place = append(place, proof.Line{Anchor: &proof.Anchor{Name: "place", Held: &held}})
	var order []int64 // negative: a checkpoint
	for l, err := range proof.Merge(each(entries()), each(place), each([]proof.Line{{Checkpoint: note(5)}}), each(nil)) {
		require.NoError(t, err)
		switch {
		case l.Entry != nil:
			order = append(order, l.Entry.Position)
		case l.End != nil:
			order = append(order, 100)
		case l.Source != nil:
			order = append(order, 99)
		case l.Anchor != nil && l.Anchor.Held != nil:
			order = append(order, -99)
		default:
			text := l.Checkpoint
			if l.Anchor != nil {
				text = l.Anchor.Checkpoint
			}
			c, err := proof.Peek([]byte(text))
			require.NoError(t, err)
			order = append(order, -c.Size)
		}
	}
	require.Equal(t, []int64{-9, 1, -2, 2, 3, 4, -5, -5, 5, 6, 99, -9, -99, 100}, order)

	broken := errors.New("broken")
	var seq iter.Seq2[proof.Line, error] = func(yield func(proof.Line, error) bool) { yield(proof.Line{}, broken) }
	var got error
	for _, err := range proof.Merge(each(entries()), seq) {
		got = err
	}
	require.ErrorIs(t, got, broken)
	for range proof.Merge(each(entries()), each(place)) {
		break // nobody wants more: no goroutine is left (goleak would tell)
	}
}

// An export in turn is verified as one in which all checkpoints come first.
func TestVerifyReadsCheckpointsInTurn(t *testing.T) {
	t.Parallel()
	s := signer(t, 1)
	keys := proof.Keys{{Verifier: s.VerifierKey()}}
	const n = 20
	lines := func() iter.Seq2[proof.Line, error] {
		all := export(t, s, n)
		return proof.Merge(each(all[7:]), each(all[:1]), each(all[1:3]), each(all[3:5]), each(all[5:7]))
	}
	r := proof.Verify(lines(), keys)
	require.Equal(t, proof.Sound, r.Verdict, "%+v", r)
	require.Equal(t, map[string]int{"shard/s1": 1, "stream": 1}, r.Anchored)
	forged, err := s.Sign(n/2, tlog.Hash{1})
	require.NoError(t, err)
	r = proof.Verify(proof.Merge(lines(), each([]proof.Line{{Anchor: &proof.Anchor{Name: "kept", Checkpoint: string(forged)}}})), keys)
	require.Equal(t, proof.Tampered, r.Verdict)
	require.Contains(t, r.Problems[0].Text, "the checkpoint at kept, of 10 records")

	// One that comes too late is not taken for compared.
	late := func(yield func(proof.Line, error) bool) {
		for l, err := range lines() {
			if l.End != nil && !yield(proof.Line{Anchor: &proof.Anchor{Name: "kept", Checkpoint: string(forged)}}, nil) {
				return
			}
			if !yield(l, err) {
				return
			}
		}
	}
	require.Equal(t, proof.Incomplete, proof.Verify(late, keys).Verdict)
}
