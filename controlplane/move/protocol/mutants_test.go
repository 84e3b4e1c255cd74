package protocol_test

import (
	"context"

	"github.com/freehold-db/freehold/controlplane/move/protocol"
)

// mutant is a protocol, or a world, that is wrong on purpose.
type mutant struct {
	name   string
	within budget // the smallest in which it shows
	wrap   func(w protocol.World) protocol.World
	// What of the world is left out.
	plainRead, noClaim, noGuard, looseSequences, noKeeper bool
}

// mutants are each caught by the explorer (TestMutantsAreCaught).
var mutants = []mutant{
	{name: "fence after the barrier", within: budget{writes: 1, deaf: true, faults: 1},
		wrap: func(w protocol.World) protocol.World { return fenceLate{w} }},
	{name: "flip before the barrier", within: budget{writes: 1, deaf: true},
		wrap: func(w protocol.World) protocol.World { return flipEarly{w} }},
	{name: "no wait for those who were there before the fence", within: budget{writes: 1, deaf: true, faults: 1},
		wrap: func(w protocol.World) protocol.World { return noDrain{w} }},
	{name: "a node's word is taken for the fence", within: budget{writes: 1},
		wrap: func(w protocol.World) protocol.World { return noFence{w} }},
	{name: "opened on a guess when the catalog does not answer", within: budget{writes: 1, deaf: true, faults: 2},
		wrap: func(w protocol.World) protocol.World { return guesses{w} }},
	{name: "opened on what a mere reader sees", within: budget{writes: 1, deaf: true, faults: 1}, plainRead: true},
	{name: "resume forgotten", within: budget{deaf: true, cancels: 1}, noKeeper: true,
		wrap: func(w protocol.World) protocol.World { return noResume{w} }},
	{name: "clients not led to the target", within: budget{deaf: true}, noKeeper: true,
		wrap: func(w protocol.World) protocol.World { return noRoute{w} }},
	{name: "target left closed", within: budget{deaf: true},
		wrap: func(w protocol.World) protocol.World { return noOpen{w} }},
	{name: "nobody looks after what a worker without its lease left paused", within: budget{deaf: true, lapses: 1, wakes: 1, crashes: 1}, noKeeper: true},
	{name: "fences raised and lowered without the guard", within: budget{deaf: true, writes: 1, lapses: 1, wakes: 1}, noGuard: true},
	{name: "sequences set without the guard", within: budget{deaf: true, writes: 2, lapses: 1, wakes: 1}, looseSequences: true},
}

type fenceLate struct{ protocol.World }

func (fenceLate) Fence(context.Context) error { return nil }
func (fenceLate) Drain(context.Context) error { return nil }
func (w fenceLate) Barrier(ctx context.Context) error {
	if err := w.World.Barrier(ctx); err != nil {
		return err
	}
	if err := w.World.Fence(ctx); err != nil {
		return err
	}
	return w.World.Drain(ctx)
}

type flipEarly struct{ protocol.World }

func (w flipEarly) Barrier(ctx context.Context) error { return w.World.Flip(ctx) }
func (w flipEarly) Flip(ctx context.Context) error    { return w.World.Barrier(ctx) }

type noDrain struct{ protocol.World }

func (noDrain) Pause(context.Context) error { return nil }
func (noDrain) Drain(context.Context) error { return nil }

type noFence struct{ protocol.World }

func (noFence) Pause(context.Context) error { return nil }
func (noFence) Fence(context.Context) error { return nil }

type guesses struct{ protocol.World }

func (w guesses) Flipped(ctx context.Context) (bool, error) {
	flipped, err := w.World.Flipped(ctx)
	return flipped && err == nil, ctx.Err()
}

type noResume struct{ protocol.World }

func (noResume) Resume(context.Context) error { return nil }

type noRoute struct{ protocol.World }

func (noRoute) Route(context.Context) error { return nil }

type noOpen struct{ protocol.World }

func (w noOpen) Unfence(ctx context.Context, side protocol.Side) error {
	if side == protocol.Target {
		return nil
	}
	return w.World.Unfence(ctx, side)
}
