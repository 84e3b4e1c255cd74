package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/freehold-db/freehold/shardmap"
)

// ErrUnknown: what holds for a tenant is not known here, and nobody could be
// asked. To serve it would be to guess that nothing was revoked.
var ErrUnknown = errors.New("access of the tenant cannot be looked up now")

const (
	parts    = 64              // of the directory, each with a lock of its own
	loadFor  = 3 * time.Second // one question outside
	noneFor  = 5 * time.Second // how long "there is no document" is believed while not everything was taken in
	noneSize = 50_000          // such answers remembered
)

// Directory is a node's copy of the access documents. They come in by
// [Directory.Take] (the watch), or by a miss; of two documents the one with the
// greater version is kept, so that late, doubled and reordered news do no harm.
// Once everything was taken in, a tenant without a document has none, and
// costs nothing here. It is safe for concurrent use and needs no closing.
type Directory struct {
	load   func(ctx context.Context, key string) ([]byte, error)
	seed   maphash.Seed
	parts  [parts]part
	fleet  atomic.Pointer[Fleet]
	whole  atomic.Bool
	none   *lru.Cache[string, time.Time] // until when
	flight singleflight.Group

	mu        sync.Mutex                 // writers
	seen      map[shardmap.TenantID]bool // since Begin; nil: settled
	fleetSeen bool                       // since Begin
	passed    bool                       // since Begin

	// broken are tenants of whom there is a document that cannot be read, and
	// none here: that is not the same as none at all.
	broken sync.Map // shardmap.TenantID → struct{}

	issuersMu sync.RWMutex
	issuers   map[string][]shardmap.TenantID // by URL, who has it
}

type part struct {
	mu      sync.RWMutex
	tenants map[shardmap.TenantID]*Tenant
}

// NewDirectory makes an empty directory. load is asked for what it lacks, under
// a bounded context, once per key at a time: nil bytes mean that there is no
// such document, an error that nobody could be asked.
func NewDirectory(load func(ctx context.Context, key string) ([]byte, error)) *Directory {
	none, _ := lru.New[string, time.Time](noneSize) // fails for a size below 1 only
	d := &Directory{load: load, seed: maphash.MakeSeed(), none: none, issuers: map[string][]shardmap.TenantID{}}
	for i := range d.parts {
		d.parts[i].tenants = map[shardmap.TenantID]*Tenant{}
	}
	return d
}

// Tenant returns what holds for a tenant besides the fleet's, nil if that is
// nothing, or an error wrapping [ErrUnknown] or ctx's. Documents are shared
// and never changed: another pointer is another document. After a success
// [Directory.Fleet] is known, too.
func (d *Directory) Tenant(ctx context.Context, id shardmap.TenantID) (*Tenant, error) {
	t := d.have(id)
	if d.fleet.Load() != nil && (t != nil || d.whole.Load()) {
		if t == nil && d.unreadable(id) {
			return nil, fmt.Errorf("%w: document %s is malformed", ErrUnknown, id)
		}
		return t, nil
	}
	if err := d.fetch(ctx, FleetKey); err != nil {
		return nil, err
	}
	if t == nil {
		if err := d.fetch(ctx, string(id)); err != nil {
			return nil, err
		}
		t = d.have(id)
	}
	return t, nil
}

// Fleet is what holds for every tenant; without any limits and policies as long as it is not known.
func (d *Directory) Fleet() *Fleet {
	if f := d.fleet.Load(); f != nil {
		return f
	}
	return &noFleet
}

var noFleet Fleet

// Ready returns nil when the fleet's document is known, or that there is none,
// and an error wrapping [ErrUnknown] otherwise.
func (d *Directory) Ready(ctx context.Context) error { return d.fetch(ctx, FleetKey) }

// Synced tells whether everything was taken in at least once.
func (d *Directory) Synced() bool { return d.whole.Load() }

// Trusting returns the one tenant that has an issuer of that URL; false when
// there is none, or several, as far as they are known here.
func (d *Directory) Trusting(url string) (shardmap.TenantID, bool) {
	d.issuersMu.RLock()
	defer d.issuersMu.RUnlock()
	if who := d.issuers[url]; len(who) == 1 {
		return who[0], true
	}
	return "", false
}

func (d *Directory) part(id shardmap.TenantID) *part {
	return &d.parts[maphash.String(d.seed, string(id))%parts]
}

func (d *Directory) have(id shardmap.TenantID) *Tenant {
	p := d.part(id)
	p.mu.RLock()
	t := p.tenants[id]
	p.mu.RUnlock()
	return t
}

// unreadable tells whether the tenant has a document from which nobody could
// tell what was revoked or forbidden; another version of the control plane may have written it.
func (d *Directory) unreadable(id shardmap.TenantID) bool {
	_, bad := d.broken.Load(id)
	return bad
}

// fetch asks outside for a document that is not here, unless a recent answer says that there is none.
func (d *Directory) fetch(ctx context.Context, key string) error {
	if d.answered(key) {
		return nil
	}
	done := d.flight.DoChan(key, func() (any, error) {
		if d.answered(key) { // since we looked
			return nil, nil //nolint:nilnil // the document is in the directory
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadFor)
		defer cancel()
		value, err := d.load(ctx, key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		case value == nil:
			d.none.Add(key, time.Now().Add(noneFor))
		case !d.take(key, value):
			return nil, fmt.Errorf("%w: document %s is malformed", ErrUnknown, key)
		}
		return nil, nil //nolint:nilnil // the document is in the directory
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answered tells whether a document is here, or was said not to exist a moment ago.
func (d *Directory) answered(key string) bool {
	if key == FleetKey && d.fleet.Load() != nil || key != FleetKey && d.have(shardmap.TenantID(key)) != nil {
		return true
	}
	until, ok := d.none.Get(key)
	return ok && time.Now().Before(until)
}

// Begin is called before everything that is in the bucket comes by [Directory.Take].
func (d *Directory) Begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen, d.fleetSeen, d.passed = map[shardmap.TenantID]bool{}, false, false
}

// Take takes in one document; false when it is malformed, and what was here stays.
func (d *Directory) Take(key string, value []byte) bool { return d.take(key, value) }

// Drop forgets a tenant whose document was taken away.
func (d *Directory) Drop(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, shardmap.TenantID(key))
	d.put(shardmap.TenantID(key), nil)
}

// Whole is called when all that was there at [Directory.Begin] has come.
func (d *Directory) Whole() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passed = true
	d.settle()
}

// settle drops, once after each Begin, the documents that are not in the bucket
// any more. A store that was lost comes back empty, and nothing is forgotten
// because of it: a bucket is whole only with the fleet's document in it, which
// comes last when one is filled anew.
func (d *Directory) settle() {
	if d.seen == nil || !d.passed || !d.fleetSeen {
		return
	}
	for i := range d.parts {
		p := &d.parts[i]
		p.mu.RLock()
		var gone []shardmap.TenantID
		for id := range p.tenants {
			if !d.seen[id] {
				gone = append(gone, id)
			}
		}
		p.mu.RUnlock()
		for _, id := range gone {
			d.put(id, nil)
		}
	}
	d.broken.Range(func(id, _ any) bool {
		if !d.seen[id.(shardmap.TenantID)] { //nolint:errcheck,forcetypeassert // take stores no other
			d.broken.Delete(id)
		}
		return true
	})
	d.seen = nil
	d.whole.Store(true)
}

// take decodes and keeps a document, wherever it came from.
func (d *Directory) take(key string, value []byte) bool {
	if key == FleetKey {
		var f Fleet
		if json.Unmarshal(value, &f) != nil || f.Validate() != nil {
			return false
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if have := d.fleet.Load(); have == nil || have.Version < f.Version {
			d.fleet.Store(&f)
		}
		d.fleetSeen = true
		d.settle()
		return true
	}
	var t Tenant
	bad := json.Unmarshal(value, &t) != nil || string(t.Tenant) != key || t.Validate() != nil
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen != nil {
		d.seen[shardmap.TenantID(key)] = true // what cannot be read is there, too
	}
	if bad {
		if d.have(shardmap.TenantID(key)) == nil {
			d.broken.Store(shardmap.TenantID(key), struct{}{})
		}
		return false
	}
	if have := d.have(t.Tenant); have == nil || have.Version < t.Version {
		d.put(t.Tenant, &t)
	}
	return true
}

// put replaces or, with nil, drops a document. It is called with d.mu held, so that there is one writer.
func (d *Directory) put(id shardmap.TenantID, t *Tenant) {
	p := d.part(id)
	before := p.tenants[id] // nobody else writes
	d.trust(before, -1)
	d.broken.Delete(id)
	p.mu.Lock()
	if t == nil {
		delete(p.tenants, id)
	} else {
		p.tenants[id] = t
	}
	p.mu.Unlock()
	d.trust(t, +1)
}

// trust adds a document's issuers to the index, or takes them out.
func (d *Directory) trust(t *Tenant, by int) {
	if t == nil || len(t.Issuers) == 0 {
		return
	}
	d.issuersMu.Lock()
	defer d.issuersMu.Unlock()
	for i := range t.Issuers {
		url := t.Issuers[i].URL
		if by > 0 {
			d.issuers[url] = append(d.issuers[url], t.Tenant)
			continue
		}
		left := slices.DeleteFunc(slices.Clone(d.issuers[url]), func(id shardmap.TenantID) bool { return id == t.Tenant })
		if len(left) == 0 {
			delete(d.issuers, url)
		} else {
			d.issuers[url] = left
		}
	}
}
