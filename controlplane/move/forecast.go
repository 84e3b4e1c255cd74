package move

import (
	"context"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// forecast is what an attempt made now would cost clients, by what was measured
// a moment ago under the tenant's own writes.
type forecast struct {
	Arrival time.Duration // the slowest of the last barriers: lag, as time
	Open    time.Duration // age of the oldest transaction that writes: it lasts as long again, as likely as not
	Others  time.Duration // what holding, pausing, fencing and flipping take
	Lag     int64         // bytes of the log that the target has not applied
	Rate    float64       // bytes a second that the source's server writes to its log
}

func (f forecast) pause() time.Duration { return f.Arrival + f.Open + f.Others }

// fits leaves a fifth of the budget for what can't be foreseen.
func (f forecast) fits(budget time.Duration) bool { return f.pause() <= budget-budget/5 }

// easy tells that there is no better moment to wait for.
func (f forecast) easy(budget time.Duration) bool { return f.fits(budget) && f.Arrival <= budget/4 }

func (f forecast) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("a pause of %v is expected now: changes take %v to arrive (%.1f MB behind, the server writes %.1f MB/s), transactions under way %v, all else %v",
		round(f.pause()), round(f.Arrival), float64(f.Lag)/1e6, f.Rate/1e6, round(f.Open), round(f.Others))
}

const (
	// forecastProbes are the barriers of one forecast.
	forecastProbes = 3
	// forecastAge is how long what an attempt took says anything of the next.
	forecastAge = time.Minute
)

// foresee measures. It holds nobody back. Errors: stream.ErrNoSlot.
func (s *Service) foresee(ctx context.Context, r *run, c *crew) (forecast, error) {
	var f forecast
	start := time.Now()
	before, err := stream.Written(ctx, c.src)
	if err != nil {
		return f, err
	}
	for range forecastProbes {
		took, err := probe(ctx, c.src, c.dst, r.Data.Link, r.Data.MaxPause)
		if err != nil {
			return f, err
		}
		if f.Arrival = max(f.Arrival, took); took > r.Data.MaxPause {
			break
		}
	}
	after, err := stream.Written(ctx, c.src)
	if err != nil {
		return f, err
	}
	f.Rate = float64(after-before) / time.Since(start).Seconds()
	if f.Lag, _, err = stream.Lag(ctx, c.src, r.Data.Link); err != nil {
		return f, err
	}
	if f.Open, _, err = survey.OldestWrite(ctx, c.srcState); err != nil {
		return f, err
	}
	f.Others = others(r.Data.Receipt.Attempts, c.rehearsed, time.Now())
	return f, nil
}

// others estimates what an attempt takes beside the arrival of changes: what
// the last attempts took, or twice the rehearsal, which is about half of it.
func others(attempts []Attempt, rehearsed time.Duration, now time.Time) time.Duration {
	latest := map[string]MS{}
	for _, a := range attempts {
		if now.Sub(a.At) > forecastAge {
			continue
		}
		for _, p := range a.Phases {
			latest[p.Name] = p.MS
		}
	}
	var sum MS
	for _, name := range []string{"hold", "paused", "fenced", "before-flip"} {
		sum += latest[name]
	}
	return max(2*rehearsed, time.Duration(float64(sum)*float64(time.Millisecond)))
}
