package schema

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// kept holds schemas by fingerprint, those used last, up to a number of bytes.
type kept struct {
	mu      sync.Mutex
	schemas *simplelru.LRU[Fingerprint, *Schema]
	bytes   int64
	most    int64
	evicted uint64
}

func newKept(most int64) *kept {
	k := &kept{most: most}
	schemas, err := simplelru.NewLRU(math.MaxInt, func(_ Fingerprint, s *Schema) { k.bytes -= s.size })
	if err != nil { // the size is positive
		panic("schema: " + err.Error())
	}
	k.schemas = schemas
	return k
}

func (k *kept) get(f Fingerprint) *Schema {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, _ := k.schemas.Get(f)
	return s
}

// add keeps a schema in place of those that were not used for longest. One that
// is larger than all may be together is kept alone: somebody is about to use it.
func (k *kept) add(s *Schema) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.schemas.Contains(s.Fingerprint) {
		return
	}
	k.schemas.Add(s.Fingerprint, s)
	k.bytes += s.size
	for k.bytes > k.most && k.schemas.Len() > 1 {
		k.schemas.RemoveOldest()
		k.evicted++
	}
}

func (k *kept) stats(into *Stats) {
	k.mu.Lock()
	defer k.mu.Unlock()
	into.Schemas, into.Bytes, into.Evicted = k.schemas.Len(), k.bytes, k.evicted
	for _, s := range k.schemas.Values() {
		into.Largest = max(into.Largest, s.size)
	}
}
