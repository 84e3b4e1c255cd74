package simulate

import (
	"fmt"
	"slices"
	"sort"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// points that each shard has on the ring: the usual number.
const points = 160

// ring places tenants by consistent hashing.
type ring struct {
	at    []uint64
	shard map[uint64]shardmap.ShardID
}

// newRing is the ring of a fleet's active shards, the larger ones with more points.
func newRing(f *balance.Fleet) *ring {
	sum := 0.0
	for i := range f.Shards {
		sum += f.Shards[i].Capacity[balance.Bytes]
	}
	r := &ring{shard: map[uint64]shardmap.ShardID{}}
	for i := range f.Shards {
		s := &f.Shards[i]
		if s.State != balance.Active {
			continue
		}
		n := points
		if sum > 0 {
			n = int(points * float64(len(f.Shards)) * s.Capacity[balance.Bytes] / sum)
		}
		for k := range n {
			h := hash(fmt.Sprintf("%s#%d", s.ID, k))
			r.at = append(r.at, h)
			r.shard[h] = s.ID
		}
	}
	slices.Sort(r.at)
	return r
}

func (r *ring) of(t shardmap.TenantID) shardmap.ShardID {
	h := hash(string(t))
	i := sort.Search(len(r.at), func(i int) bool { return r.at[i] >= h })
	return r.shard[r.at[i%len(r.at)]]
}

// hashAll puts each tenant where the ring says; within its region, if it needs one.
func hashAll(f *balance.Fleet) {
	rings := map[string]*ring{"": newRing(f)}
	for i := range f.Tenants {
		region := ""
		if n := f.Tenants[i].Needs; n != nil {
			region = n.Region
		}
		if rings[region] == nil {
			part := &balance.Fleet{}
			for _, s := range f.Shards {
				if s.Region == region {
					part.Shards = append(part.Shards, s)
				}
			}
			rings[region] = newRing(part)
		}
		f.Tenants[i].Shard = rings[region].of(f.Tenants[i].ID)
	}
}

// hash is FNV-1a with a finish that spreads similar names.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
