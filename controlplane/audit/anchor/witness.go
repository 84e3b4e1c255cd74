package anchor

import (
	"context"
	"iter"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
)

// Witness asks every place for one export. A place that can't be asked is said
// so in its line; its error is none of the whole.
func (k *Keeper) Witness() audit.Elsewhere { return &witness{places: k.places} }

type witness struct {
	places Places
	there  []Place // those that answered when they were asked first
}

// Newest implements [audit.Elsewhere]: it asks one place after the other.
func (w *witness) Newest(ctx context.Context) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		all, err := w.places(ctx)
		if err != nil {
			yield(unreachable("all", err), nil)
			return
		}
		for _, p := range all {
			newest, err := w.ask(ctx, p)
			if err != nil {
				if !yield(unreachable(p.Name(), err), nil) {
					return
				}
				continue
			}
			w.there = append(w.there, p)
			for _, a := range newest {
				a.Name, a.Newest = p.Name(), true
				if !yield(proof.Line{Anchor: &a}, nil) {
					return
				}
			}
		}
	}
}

func (w *witness) ask(ctx context.Context, p Place) ([]proof.Anchor, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	return p.Newest(ctx)
}

func unreachable(name string, err error) proof.Line {
	return proof.Line{Anchor: &proof.Anchor{Name: name, Unreachable: err.Error()}}
}

// Upto implements [audit.Elsewhere].
func (w *witness) Upto(ctx context.Context, size int64) iter.Seq2[proof.Line, error] {
	var turns []iter.Seq2[proof.Line, error]
	for _, p := range w.there {
		turns = append(turns, Lines(p.Name(), p.Held(ctx, size)))
	}
	return proof.Merge(turns...)
}

// Lines are checkpoints that somebody of that name keeps, and how many they were, as lines of an export.
func Lines(name string, notes iter.Seq2[string, error]) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		held := 0
		for note, err := range notes {
			if err != nil {
				yield(unreachable(name, err), nil)
				return
			}
			held++
			if !yield(proof.Line{Anchor: &proof.Anchor{Name: name, Checkpoint: note}}, nil) {
				return
			}
		}
		yield(proof.Line{Anchor: &proof.Anchor{Name: name, Held: &held}}, nil)
	}
}

// newestOf are checkpoints of the largest size as anchors.
func newestOf(notes []string) []proof.Anchor {
	anchors := make([]proof.Anchor, len(notes))
	for i, n := range notes {
		anchors[i].Checkpoint = n
	}
	return anchors
}
