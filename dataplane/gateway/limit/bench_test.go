package limit

import (
	"errors"
	"testing"

	"github.com/freehold-db/freehold/internal/access"
)

// BenchmarkPass is what the limits of one request cost that is let pass at once.
func BenchmarkPass(b *testing.B) {
	l := New(Options{Node: "n", Defaults: access.Limits{Rate: 1e9, Burst: 1e9}})
	b.ReportAllocs()
	for b.Loop() {
		var p Pass
		l.Look(&p, "acme")
		if err := errors.Join(l.Admit(&p), l.Enter(b.Context(), &p)); err != nil {
			b.Fatal(err)
		}
		p.Leave()
	}
}
