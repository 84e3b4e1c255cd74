package move

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/shardmap"
)

// talkative is a bus with three nodes, of which n3 says nothing.
type talkative struct{ holds, releases atomic.Int64 }

func (*talkative) Flush(context.Context, shardmap.TenantID) error { return nil }

func (b *talkative) Hold(_ context.Context, h shardmap.Hold, _ time.Duration) ([]shardmap.HoldAck, int, error) {
	b.holds.Add(1)
	return []shardmap.HoldAck{{Node: "n1", ID: h.ID, Drained: true}, {Node: "n2", ID: h.ID}}, 3, nil
}

func (b *talkative) Release(_ context.Context, r shardmap.Release) (publish.Reports, error) {
	b.releases.Add(1)
	return func(_ context.Context, nodes int) []shardmap.HoldReport {
		if nodes != 3 {
			return nil
		}
		return []shardmap.HoldReport{{Node: "n2", ID: r.ID}, {Node: "n1", ID: r.ID, Held: 3, Longest: 41 * time.Millisecond}}
	}, nil
}

// The receipt gives the pause as clients saw it, node by node, of every
// attempt, beside the mover's own figures.
func TestReceiptSaysWhatClientsSaw(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.budget = time.Minute // no attempt is to fail for another reason
	_, _ = w.tenant("heard", "a")
	bus := &talkative{}
	w.publisher = bus
	var failed atomic.Bool
	w.hit = func(name string) error {
		if name == "move/cutover/barrier" && failed.CompareAndSwap(false, true) {
			return errors.New("injected")
		}
		return nil
	}
	rec := w.moved("heard", "b")
	require.Len(t, rec.Attempts, 2)
	for _, a := range rec.Attempts {
		require.Equal(t, []NodeHold{{Node: "n1", Held: 3, LongestMS: 41}, {Node: "n2"}}, a.Clients)
		require.Equal(t, 3, a.Nodes)
		require.Equal(t, 1, a.NodesDrained)
	}
	require.EqualValues(t, 41, rec.ClientPauseMS)
	require.Positive(t, rec.PauseMS)
	require.Equal(t, bus.holds.Load(), bus.releases.Load())
}
