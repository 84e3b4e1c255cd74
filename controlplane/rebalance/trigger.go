package rebalance

import (
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// sustained is how long a shard has to carry too much before auto mode relieves it.
	sustained = 5 * time.Minute
	// restFor is the time between the end of a run and one that auto mode begins for
	// the sake of balance. It doubles with each run in a row that failed.
	restFor = 10 * time.Minute
	// mustRest is that for tenants that may not stay where they are, after a run that failed.
	mustRest = time.Minute
	// canceledRest is how long auto mode begins nothing after somebody cancelled a run.
	canceledRest = time.Hour
	// longestRest bounds them all.
	longestRest = 6 * time.Hour
	// hotShare is the part of its shard's even share that makes a tenant hot.
	hotShare = 0.5
)

// memory is what auto mode has to know of its earlier looks.
type memory struct {
	// Known are the active shards of the last look; nil: there was none.
	Known []shardmap.ShardID `json:"known,omitempty"`
	// Fresh are those that came since, and that no run was begun for yet.
	Fresh []shardmap.ShardID `json:"fresh,omitempty"`
	// Over is since when shards carry too much.
	Over map[shardmap.ShardID]time.Time `json:"over,omitempty"`
	// Run is the run that ended last, as it was counted, and Failed how many in a row have failed.
	Run    string `json:"run,omitempty"`
	Failed int    `json:"failed,omitempty"`
}

// ended is the run that ended last.
type ended struct {
	id               string
	at               time.Time
	failed, canceled bool
}

// sight is what auto mode sees at one look.
type sight struct {
	now    time.Time
	fleet  *balance.Fleet
	policy *balance.Policy
	plan   *balance.Plan // for the fleet as it is
	last   *ended        // nil: there was no run yet
	// resting are tenants that the plan leaves where they are, since their moves failed.
	resting map[shardmap.TenantID]rest
}

// decision is what auto mode does.
type decision struct {
	begin bool
	must  bool   // the run moves only those who may not stay
	kind  string // of trigger, one of few
	says  string // why it begins, or what it waits for
}

// decide says whether a run begins, and remembers what it saw. A shard carries
// too much from when the planner would begin to relieve it until it would not:
// it begins at its tolerance and margin and ends at its tolerance.
func (m *memory) decide(s sight) decision {
	m.noteShards(s.fleet)
	m.noteRun(s.last)
	over := m.noteLoad(s)
	d := m.trigger(s, over)
	if d.kind == "" {
		return d
	}
	if until, quiet := s.policy.QuietUntil(s.now); quiet {
		d.begin, d.says = false, d.says+"; a run begins after quiet hours, at "+clockTime(until)
		return d
	}
	if until := m.restUntil(s.last, d.must); s.now.Before(until) {
		d.begin, d.says = false, d.says+"; a run begins at "+clockTime(until)+", since "+m.restWhy(s.last)
		return d
	}
	if d.begin {
		m.Fresh = nil
	}
	return d
}

// trigger finds the most urgent reason for a run. kind is empty if there is none at all.
func (m *memory) trigger(s sight, over map[shardmap.ShardID]balance.Move) decision {
	for _, t := range []struct {
		reason balance.Kind
		kind   string
		says   func(balance.Move) string
	}{
		{balance.ForDrain, "drain", func(mv balance.Move) string {
			return fmt.Sprintf("shard %s is being drained, and no run is under way", mv.From)
		}},
		{balance.ForConstraint, "needs", func(mv balance.Move) string {
			return fmt.Sprintf("tenant %s may not stay on %s: %s", mv.Tenant, mv.From, mv.Reason.Detail)
		}},
		{balance.ForLimit, "limit", func(mv balance.Move) string {
			return fmt.Sprintf("shard %s is filled beyond its headroom", mv.From)
		}},
	} {
		for _, mv := range s.plan.Moves {
			if mv.Reason.Kind == t.reason {
				return decision{begin: true, must: true, kind: t.kind, says: t.says(mv)}
			}
		}
	}
	if len(over) == 0 {
		m.Fresh = nil // there is nothing to bring there
		for _, refused := range s.plan.Refused {
			if _, rests := s.resting[refused.Tenant]; !rests {
				return decision{says: "nothing can be done about " + refused.String()}
			}
		}
		if id, first, some := firstUp(s.resting); some {
			return decision{says: fmt.Sprintf("nothing to do without %d tenants whose moves failed: %s may be moved again at %s, after %d that failed: %s",
				len(s.resting), id, clockTime(first.until), first.failed, first.why)}
		}
		return decision{says: "nothing to do"}
	}
	if len(m.Fresh) > 0 {
		return decision{begin: true, kind: "shard-added", says: fmt.Sprintf("shard %s was added", m.Fresh[0])}
	}
	if id, on, hot := s.hot(over); hot {
		return decision{begin: true, kind: "hot-tenant", says: fmt.Sprintf("tenant %s has become hot: it alone takes %.0f%% of what %s should carry", id.ID, 100*id.share, on)}
	}
	first, since := shardmap.ShardID(""), time.Time{}
	for id, at := range m.Over {
		if since.IsZero() || at.Before(since) || at.Equal(since) && id < first {
			first, since = id, at
		}
	}
	d := decision{kind: "threshold", begin: !s.now.Before(since.Add(sustained)), says: fmt.Sprintf("shard %s carries too much since %s", first, clockTime(since))}
	if !d.begin {
		d.says += ", and is relieved if it still does at " + clockTime(since.Add(sustained))
	}
	return d
}

// hotTenant is a tenant and its part of its shard's even share.
type hotTenant struct {
	ID    shardmap.TenantID
	share float64
}

// hot finds the hottest tenant on a shard that carries too much, if it is hot.
func (s *sight) hot(over map[shardmap.ShardID]balance.Move) (t hotTenant, on shardmap.ShardID, hot bool) {
	even := map[shardmap.ShardID]func(*balance.Tenant) float64{}
	for i := range s.plan.Shards {
		c := &s.plan.Shards[i]
		if _, is := over[c.ID]; !is || c.Before.Share <= 0 || c.Before.Tenants < 2 {
			continue
		}
		for d := range balance.Dimension(balance.Dimensions) {
			// A database is a database: none is hotter than another.
			if d.String() == c.Before.In && d != balance.Databases {
				share := c.Before.Load[d] / c.Before.Share
				even[c.ID] = func(t *balance.Tenant) float64 { return t.Usage[d] / share }
			}
		}
	}
	if len(even) == 0 {
		return t, "", false
	}
	for i := range s.fleet.Tenants {
		if part := even[s.fleet.Tenants[i].Shard]; part != nil {
			if p := part(&s.fleet.Tenants[i]); p >= hotShare && p > t.share {
				t, on, hot = hotTenant{s.fleet.Tenants[i].ID, p}, s.fleet.Tenants[i].Shard, true
			}
		}
	}
	return t, on, hot
}

// noteShards remembers which active shards there are, and which are new.
func (m *memory) noteShards(f *balance.Fleet) {
	first := m.Known == nil
	now := []shardmap.ShardID{}
	for i := range f.Shards {
		if f.Shards[i].State == balance.Active {
			now = append(now, f.Shards[i].ID)
		}
	}
	for _, id := range now {
		if !first && !slices.Contains(m.Known, id) && !slices.Contains(m.Fresh, id) {
			m.Fresh = append(m.Fresh, id)
		}
	}
	m.Fresh = slices.DeleteFunc(m.Fresh, func(id shardmap.ShardID) bool { return !slices.Contains(now, id) })
	m.Known = now
}

// noteRun counts runs that failed, each once.
func (m *memory) noteRun(last *ended) {
	if last == nil || last.id == m.Run {
		return
	}
	m.Run = last.id
	if last.failed {
		m.Failed++
	} else {
		m.Failed = 0
	}
}

// noteLoad remembers since when shards carry too much, and returns them with a move that relieves each.
func (m *memory) noteLoad(s sight) map[shardmap.ShardID]balance.Move {
	over := map[shardmap.ShardID]balance.Move{}
	for _, mv := range s.plan.Moves {
		if k := mv.Reason.Kind; k == balance.ForBalance || k == balance.ForSwap {
			over[mv.From] = mv
		}
	}
	was := m.Over
	m.Over = nil
	for id := range over {
		if m.Over == nil {
			m.Over = map[shardmap.ShardID]time.Time{}
		}
		m.Over[id] = s.now
		if at, before := was[id]; before {
			m.Over[id] = at
		}
	}
	return over
}

// restUntil is before when no run begins by itself.
func (m *memory) restUntil(last *ended, must bool) time.Time {
	switch {
	case last == nil:
		return time.Time{}
	case last.canceled:
		return last.at.Add(canceledRest)
	case must && !last.failed:
		return time.Time{}
	}
	if must {
		return last.at.Add(backOff(mustRest, m.Failed))
	}
	return last.at.Add(backOff(restFor, m.Failed))
}

// backOff is the rest after so many failures in a row, of which each doubles it.
func backOff(first time.Duration, failed int) time.Duration {
	for range max(failed-1, 0) {
		if first = 2 * first; first >= longestRest {
			return longestRest
		}
	}
	return first
}

func (m *memory) restWhy(last *ended) string {
	switch {
	case last.canceled:
		return "somebody cancelled the last one"
	case m.Failed > 1:
		return fmt.Sprintf("the last %d failed", m.Failed)
	case last.failed:
		return "the last one failed"
	}
	return "one has just ended"
}

func clockTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
