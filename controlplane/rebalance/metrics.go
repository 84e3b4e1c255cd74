package rebalance

import "github.com/prometheus/client_golang/prometheus"

// counters are what a replica shows of its own at /metrics; what the fleet's
// run has left is the catalog's to say.
type counters struct {
	moves  *prometheus.CounterVec
	begun  prometheus.Counter
	plans  prometheus.Counter
	autos  *prometheus.CounterVec
	second prometheus.Histogram
}

func newCounters(r prometheus.Registerer) counters {
	c := counters{
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_rebalance_moves_ended_total", Help: "Moves of runs that this replica saw to their end, by outcome.",
		}, []string{"outcome"}),
		begun: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freehold_rebalance_moves_begun_total", Help: "Moves that this replica began for a run.",
		}),
		plans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freehold_rebalance_plans_total", Help: "Plans that runs made, at their beginning or because the fleet changed.",
		}),
		autos: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_rebalance_auto_runs_total", Help: "Runs that auto mode began, by what for.",
		}, []string{"trigger"}),
		second: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "freehold_rebalance_look_seconds", Help: "How long a run's look at the whole fleet took.",
			Buckets: []float64{.003, .01, .03, .1, .3, 1, 3, 10, 30},
		}),
	}
	if r != nil {
		r.MustRegister(c.moves, c.begun, c.plans, c.autos, c.second)
	}
	return c
}
