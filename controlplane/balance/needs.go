package balance

import (
	"encoding/binary"
	"slices"
	"strings"
)

// kind is one distinct set of needs. Tenants without needs are all of kind 0.
type kind struct {
	*Needs
	class int32 // which shards will do: an index of state.classes
	group int32 // tenants of the same group (not 0) keep apart
}

// class is one distinct demand on a shard's properties, whoever else is there.
type class struct {
	needs    *Needs
	fits     []bool  // by shard
	pools    []int32 // the pools of shards that fit and take tenants
	roomiest Vector  // the largest even share among those shards
	tightest Vector  // the smallest
}

// kinds numbers the tenants' needs, so that a million tenants with the same few
// needs cost no more than the few.
func (st *state) numberKinds() {
	none := &Needs{}
	byPointer := map[*Needs]int32{nil: 0}
	byContent := map[string]int32{content(none, true): 0}
	byClass := map[string]int32{}
	groups := map[string]int32{}
	add := func(n *Needs) int32 {
		k := kind{Needs: n}
		if n.Apart != "" {
			if groups[n.Apart] == 0 {
				groups[n.Apart] = int32(len(groups) + 1) //nolint:gosec // no more than tenants
			}
			k.group = groups[n.Apart]
		}
		demand := content(n, false)
		c, known := byClass[demand]
		if !known {
			c = int32(len(st.classes)) //nolint:gosec // no more than tenants
			byClass[demand] = c
			st.classes = append(st.classes, st.newClass(n))
		}
		k.class = c
		st.kinds = append(st.kinds, k)
		return int32(len(st.kinds) - 1) //nolint:gosec // no more than tenants
	}
	add(none)
	for t := range st.tenants {
		n := st.tenants[t].Needs
		k, known := byPointer[n]
		if !known {
			key := content(n, true)
			if k, known = byContent[key]; !known {
				k = add(n)
				byContent[key] = k
			}
			byPointer[n] = k
		}
		st.kindOf[t] = k
	}
}

// content writes needs so that equal ones are written the same: all of them, or
// only those that a shard's properties settle.
func content(n *Needs, all bool) string {
	var b strings.Builder
	text := func(s string) {
		var length [4]byte
		binary.LittleEndian.PutUint32(length[:], uint32(len(s))) //nolint:gosec // names
		b.Write(length[:])
		b.WriteString(s)
	}
	text(n.Region)
	text(n.Class)
	for _, labels := range []map[string]string{n.Require, n.Forbid} {
		text(strings.Repeat("x", len(labels)))
		for _, k := range sortedKeys(labels) {
			text(k)
			text(labels[k])
		}
	}
	if all {
		text(n.Apart)
		b.WriteByte(bit(n.Pinned) | bit(n.Exclusive)<<1)
	}
	return b.String()
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (st *state) newClass(n *Needs) class {
	c := class{needs: n, fits: make([]bool, len(st.shards))}
	for s := range st.shards {
		constraint, _ := n.Refuses(st.shards[s].Shard)
		c.fits[s] = constraint == ""
	}
	return c
}

// Refuses tells which constraint of the needs the shard's own properties break
// (region, class, labels), and how; "" if none.
func (n *Needs) Refuses(s *Shard) (by Constraint, detail string) {
	if n.Region != "" && n.Region != s.Region {
		return ByRegion, "the tenant has to be in region " + n.Region + ", " + string(s.ID) + " is in " + orNone(s.Region)
	}
	if n.Class != "" && n.Class != s.Class {
		return ByClass, "the tenant wants class " + n.Class + ", " + string(s.ID) + " is of " + orNone(s.Class)
	}
	for _, k := range sortedKeys(n.Require) {
		if v, has := s.Labels[k]; !has || v != n.Require[k] {
			return ByLabel, "the tenant requires the label " + k + "=" + n.Require[k] + ", which " + string(s.ID) + " has not"
		}
	}
	for _, k := range sortedKeys(n.Forbid) {
		if v, has := s.Labels[k]; has && v == n.Forbid[k] {
			return ByLabel, "the tenant forbids the label " + k + "=" + v + ", which " + string(s.ID) + " has"
		}
	}
	return "", ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// makePools puts shards together that no class tells apart: those that take
// tenants and that nobody has to himself. What is even is a matter of a pool,
// and the best shard for a tenant is looked for pool by pool.
func (st *state) makePools() {
	st.pools = st.pools[:0]
	for c := range st.classes {
		st.classes[c].pools = st.classes[c].pools[:0]
	}
	bySignature := map[string]int32{}
	signature := make([]byte, len(st.classes))
	for s := range st.shards {
		sh := &st.shards[s]
		sh.pool = none
		if sh.State != Active || sh.exclusives > 0 {
			continue
		}
		for c := range st.classes {
			signature[c] = bit(st.classes[c].fits[s])
		}
		p, known := bySignature[string(signature)]
		if !known {
			p = int32(len(st.pools)) //nolint:gosec // no more than shards
			bySignature[string(signature)] = p
			st.pools = append(st.pools, pool{})
			for c := range st.classes {
				if st.classes[c].fits[s] {
					st.classes[c].pools = append(st.classes[c].pools, p)
				}
			}
		}
		sh.pool = p
		st.pools[p].shards = append(st.pools[p].shards, int32(s)) //nolint:gosec // fleets have thousands of shards
	}
}
