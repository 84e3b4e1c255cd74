package balance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/shardmap"
)

// Scenario is what a plan supposes. The zero value supposes nothing.
type Scenario struct {
	Add   int                // so many shards more, like those there are
	Drain []shardmap.ShardID // these are to be emptied
}

// ParseScenario reads what [Scenario.String] writes: add-shard=4, drain=s3, or
// several of them with commas between. Errors: ErrInvalid.
func ParseScenario(text string) (sc Scenario, err error) {
	if text == "" {
		return sc, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		what, value, _ := strings.Cut(part, "=")
		switch what {
		case "add-shard":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 100_000 {
				return Scenario{}, fmt.Errorf("%w scenario %q: want a number of shards, like add-shard=4", ErrInvalid, part)
			}
			sc.Add += n
		case "drain":
			id, err := shardmap.ParseShardID(value)
			if err != nil {
				return Scenario{}, fmt.Errorf("%w scenario: %w", ErrInvalid, err)
			}
			if !slices.Contains(sc.Drain, id) {
				sc.Drain = append(sc.Drain, id)
			}
		default:
			return Scenario{}, fmt.Errorf("%w scenario %q: want add-shard=N or drain=SHARD", ErrInvalid, part)
		}
	}
	return sc, nil
}

func (sc Scenario) String() string {
	var parts []string
	if sc.Add > 0 {
		parts = append(parts, fmt.Sprintf("add-shard=%d", sc.Add))
	}
	for _, id := range sc.Drain {
		parts = append(parts, "drain="+string(id))
	}
	return strings.Join(parts, ",")
}

// Apply returns the fleet as the scenario supposes it; f stays as it is. A shard
// that is added is like one of the active ones, each of them in turn, and named
// new-1, new-2 and so on. Errors: ErrInvalid, when a shard to drain is not there or is down.
func (sc Scenario) Apply(f *Fleet) (*Fleet, error) {
	if sc.Add == 0 && len(sc.Drain) == 0 {
		return f, nil
	}
	shards := slices.Clone(f.Shards)
	for _, id := range sc.Drain {
		i := slices.IndexFunc(shards, func(s Shard) bool { return s.ID == id })
		if i < 0 {
			return nil, fmt.Errorf("%w scenario: there is no shard %s to drain", ErrInvalid, id)
		}
		if shards[i].State == Down {
			return nil, fmt.Errorf("%w scenario: shard %s is down, and nothing can be moved off it", ErrInvalid, id)
		}
		shards[i].State = Draining
	}
	var like []Shard
	for _, s := range shards {
		if s.State == Active {
			like = append(like, s)
		}
	}
	if len(like) == 0 && sc.Add > 0 {
		return nil, fmt.Errorf("%w scenario: there is no active shard that a new one could be like", ErrInvalid)
	}
	taken := make(map[shardmap.ShardID]bool, len(shards))
	for _, s := range shards {
		taken[s.ID] = true
	}
	for n := 1; sc.Add > len(shards)-len(f.Shards); n++ {
		s := like[(len(shards)-len(f.Shards))%len(like)]
		s.ID, s.Other = shardmap.ShardID("new-"+strconv.Itoa(n)), Vector{}
		if !taken[s.ID] {
			shards = append(shards, s)
		}
	}
	return &Fleet{Shards: shards, Tenants: f.Tenants}, nil
}
