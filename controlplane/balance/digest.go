package balance

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Digest names the state of the fleet as far as a plan depends on it for being
// right: which shards there are, what they are and may hold, where each tenant
// lives and what it needs. What tenants use is not in it, since that changes all
// the time, and a plan is no worse for a little of it. Order doesn't matter.
func (f *Fleet) Digest() string {
	lines := make([]string, len(f.Shards))
	for i := range f.Shards {
		s := &f.Shards[i]
		var labels strings.Builder
		for _, k := range sortedKeys(s.Labels) {
			fmt.Fprintf(&labels, "%q=%q,", k, s.Labels[k])
		}
		lines[i] = fmt.Sprintf("%q %q %q %q %v %s\n", s.ID, s.State, s.Region, s.Class, s.Capacity, labels.String())
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, line := range lines {
		h.Write([]byte(line))
	}
	// Tenants are a set: the sum of their hashes, in two lanes, is the same in any order.
	needs := map[*Needs]uint64{}
	var a, b uint64
	for i := range f.Tenants {
		t := &f.Tenants[i]
		n, known := needs[t.Needs]
		if !known {
			n = hash(offset, content(orZero(t.Needs), true))
			needs[t.Needs] = n
		}
		x := hash(hash(offset^n, string(t.ID))*prime, string(t.Shard))
		a += mix(x)
		b += mix(x ^ offset)
	}
	var sums [16]byte
	binary.LittleEndian.PutUint64(sums[:8], a)
	binary.LittleEndian.PutUint64(sums[8:], b)
	h.Write(sums[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func orZero(n *Needs) *Needs {
	if n == nil {
		return &Needs{}
	}
	return n
}

// FNV-1a, and the finish of MurmurHash3, without which sums of similar IDs would show patterns.
const (
	offset uint64 = 14695981039346656037
	prime  uint64 = 1099511628211
)

func hash(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
