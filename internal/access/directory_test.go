package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

func encode(t require.TestingT, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func plan(id shardmap.TenantID, version int64, name string) access.Tenant {
	return access.Tenant{Tenant: id, Version: version, Plan: name}
}

// outside is what a directory asks for what it lacks.
type outside struct {
	mu    sync.Mutex
	docs  map[string][]byte
	away  bool
	asked atomic.Int64
}

func (o *outside) load(_ context.Context, key string) ([]byte, error) {
	o.asked.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		return nil, errors.New("away")
	}
	return o.docs[key], nil
}

func (o *outside) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func TestDirectoryBeforeItIsFed(t *testing.T) {
	t.Parallel()
	o := &outside{away: true, docs: map[string][]byte{}}
	d := access.NewDirectory(o.load)
	_, err := d.Tenant(t.Context(), "acme")
	require.ErrorIs(t, err, access.ErrUnknown)
	require.ErrorIs(t, d.Ready(t.Context()), access.ErrUnknown)

	o.set(func() {
		o.away = false
		o.docs[access.FleetKey] = encode(t, access.Fleet{Version: 1, DefaultPlan: "free"})
		o.docs["acme"] = encode(t, plan("acme", 1, "gold"))
		o.docs["liar"] = encode(t, plan("acme", 9, "gold"))
		o.docs["broken"] = []byte(`{"tenant":"broken","version":1,"roles":["a b"]}`)
	})
	doc, err := d.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, "gold", doc.Plan)
	require.Equal(t, "free", d.Fleet().DefaultPlan)
	doc, err = d.Tenant(t.Context(), "none")
	require.NoError(t, err)
	require.Nil(t, doc)
	for _, id := range []shardmap.TenantID{"liar", "broken"} {
		_, err = d.Tenant(t.Context(), id)
		require.ErrorIs(t, err, access.ErrUnknown, "better nobody than somebody else")
	}

	// What was asked is not asked again at once, and what is known stays.
	before := o.asked.Load()
	for range 100 {
		_, err = d.Tenant(t.Context(), "none")
		require.NoError(t, err)
	}
	require.Equal(t, before, o.asked.Load())
	o.set(func() { o.away = true })
	_, err = d.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	_, err = d.Tenant(t.Context(), "other")
	require.ErrorIs(t, err, access.ErrUnknown)
	require.False(t, d.Synced())
}

func TestDirectoryAsksOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	gate := make(chan struct{})
	d := access.NewDirectory(func(_ context.Context, key string) ([]byte, error) {
		if key != access.FleetKey {
			asked.Add(1)
		}
		<-gate
		return nil, nil
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := d.Tenant(t.Context(), "acme")
			if err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Tenant(ctx, "acme")
	require.ErrorIs(t, err, context.Canceled, "who is gone does not wait")
	close(gate)
	wg.Wait()
	require.EqualValues(t, 1, asked.Load())
}

func TestDirectoryOfAWholeBucket(t *testing.T) {
	t.Parallel()
	o := &outside{away: true}
	d := access.NewDirectory(o.load)
	fleet := func(version int64) {
		require.True(t, d.Take(access.FleetKey, encode(t, access.Fleet{Version: version})))
	}
	take := func(doc access.Tenant) { require.True(t, d.Take(string(doc.Tenant), encode(t, doc))) }
	has := func(id shardmap.TenantID, want string) {
		t.Helper()
		doc, err := d.Tenant(t.Context(), id)
		require.NoError(t, err)
		if want == "" {
			require.Nil(t, doc)
		} else {
			require.Equal(t, want, doc.Plan)
		}
	}
	d.Begin()
	take(plan("acme", 5, "gold"))
	take(plan("rival", 1, "free"))
	d.Whole()
	require.False(t, d.Synced(), "without the fleet's document it is not whole")
	fleet(1)
	require.True(t, d.Synced())
	has("acme", "gold")
	has("nobody", "")
	require.Zero(t, o.asked.Load(), "nobody is asked about tenants without a document")

	// Late and malformed news do no harm.
	take(plan("acme", 4, "old"))
	take(plan("acme", 5, "doubled"))
	require.False(t, d.Take("acme", []byte(`{"tenant":"acme","version":6,"plan":"No"}`)))
	require.False(t, d.Take("acme", []byte(`nonsense`)))
	require.False(t, d.Take("acme", encode(t, plan("rival", 9, "gold"))))
	has("acme", "gold")
	take(plan("acme", 6, "silver"))
	has("acme", "silver")
	d.Drop("rival")
	has("rival", "")

	// A document that cannot be read is not none: nobody knows what it revokes.
	require.False(t, d.Take("odd", []byte(`{"tenant":"odd","version":1,"plan":"No"}`)))
	_, err := d.Tenant(t.Context(), "odd")
	require.ErrorIs(t, err, access.ErrUnknown)
	take(plan("odd", 2, "gold"))
	has("odd", "gold")
	d.Drop("odd")
	has("odd", "")

	// Read anew: what is gone from the bucket is gone here, also what was only late.
	take(plan("rival", 2, "free"))
	d.Begin()
	has("rival", "free")
	take(plan("acme", 6, "silver"))
	fleet(1)
	has("rival", "free")
	d.Whole()
	has("rival", "")
	has("acme", "silver")

	// A store that was lost comes back empty, and then bit by bit.
	d.Begin()
	d.Whole()
	has("acme", "silver")
	take(plan("third", 1, "free"))
	has("acme", "silver")
	take(plan("acme", 6, "silver"))
	fleet(1)
	has("acme", "silver")
	has("third", "free")
	require.Zero(t, o.asked.Load())
}

func TestDirectoryKnowsWhoTrustsAnIssuer(t *testing.T) {
	t.Parallel()
	d := access.NewDirectory((&outside{}).load)
	doc := func(id shardmap.TenantID, version int64, urls ...string) {
		t := access.Tenant{Tenant: id, Version: version}
		for _, u := range urls {
			t.Issuers = append(t.Issuers, access.Issuer{URL: u})
		}
		b, _ := json.Marshal(t)
		d.Take(string(id), b)
	}
	const a, b = "https://a.example", "https://b.example"
	only := func(url string, want shardmap.TenantID) {
		t.Helper()
		got, ok := d.Trusting(url)
		require.Equal(t, want, got)
		require.Equal(t, want != "", ok)
	}
	only(a, "")
	doc("acme", 1, a)
	only(a, "acme")
	doc("rival", 1, a, b)
	only(a, "") // both
	only(b, "rival")
	doc("acme", 2, b)
	only(a, "rival")
	only(b, "")
	d.Drop("rival")
	only(a, "")
	only(b, "acme")
}

// However news come, the newest is what holds.
func TestDirectoryNewerWins(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := access.NewDirectory((&outside{}).load)
		newest := map[shardmap.TenantID]int64{}
		for range rapid.IntRange(1, 30).Draw(rt, "news") {
			id := rapid.SampledFrom([]shardmap.TenantID{"a", "b", "c"}).Draw(rt, "tenant")
			v := rapid.Int64Range(1, 20).Draw(rt, "version")
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				d.Begin()
			}
			require.True(rt, d.Take(string(id), encode(rt, plan(id, v, fmt.Sprintf("v%d", v)))))
			newest[id] = max(newest[id], v)
		}
		for id, v := range newest {
			doc, err := d.Tenant(context.Background(), id)
			require.NoError(rt, err)
			require.Equal(rt, fmt.Sprintf("v%d", v), doc.Plan)
		}
	})
}

// Readers and the watch do not get in each other's way: whoever reads sees versions only grow.
func TestDirectoryIsReadWhileItIsFed(t *testing.T) {
	t.Parallel()
	d := access.NewDirectory((&outside{}).load)
	ids := []shardmap.TenantID{"a", "b", "c", "d"}
	fill := func(version int64) {
		d.Begin()
		for _, id := range ids {
			d.Take(string(id), encode(t, access.Tenant{Tenant: id, Version: version, Issuers: []access.Issuer{{URL: "https://" + string(id) + ".example"}}}))
		}
		d.Take(access.FleetKey, encode(t, access.Fleet{Version: version}))
		d.Whole()
	}
	fill(1)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for _, id := range ids {
		readers.Go(func() {
			for last, fleet := int64(0), int64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				doc, err := d.Tenant(context.Background(), id)
				if err != nil || doc == nil || doc.Version < last || d.Fleet().Version < fleet {
					t.Errorf("%v, %v after version %d", doc, err, last)
					return
				}
				last, fleet = doc.Version, d.Fleet().Version
				if only, ok := d.Trusting("https://" + string(id) + ".example"); ok && only != id {
					t.Errorf("%s trusts the issuer of %s", only, id)
				}
			}
		})
	}
	for v := range int64(200) {
		fill(v + 1)
	}
	close(done)
	readers.Wait()
}

// Tenants without documents cost nothing, and a hit allocates nothing.
func TestDirectoryCostsNothing(t *testing.T) {
	o := &outside{}
	d := access.NewDirectory(o.load)
	d.Begin()
	require.True(t, d.Take(access.FleetKey, []byte(`{"version":1}`)))
	require.True(t, d.Take("acme", encode(t, plan("acme", 1, "gold"))))
	d.Whole()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 10_000 {
		doc, err := d.Tenant(t.Context(), shardmap.TenantID(fmt.Sprintf("t-%d", i)))
		require.NoError(t, err)
		require.Nil(t, doc)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(500_000))
	require.Zero(t, o.asked.Load())
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = d.Tenant(t.Context(), "acme") }))
}

func BenchmarkDirectory(b *testing.B) {
	d := access.NewDirectory((&outside{}).load)
	d.Begin()
	d.Take(access.FleetKey, []byte(`{"version":1}`))
	ids := make([]shardmap.TenantID, 1000)
	for i := range ids {
		ids[i] = shardmap.TenantID(fmt.Sprintf("t-%d", i))
		d.Take(string(ids[i]), encode(b, plan(ids[i], 1, "gold")))
	}
	d.Whole()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.N(1000); pb.Next(); i++ {
			if _, err := d.Tenant(b.Context(), ids[i%1000]); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestReporter(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []access.Event
	var away atomic.Bool
	away.Store(true)
	r := access.NewReporter("n1", func(_ context.Context, e access.Event) error {
		if away.Load() {
			return errors.New("away")
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e)
		return nil
	}, silent)
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	for range 100 { // more of one tenant than anybody wants to read
		r.Report(access.NewEvent("", access.ActionCrossTenant, "acme"))
	}
	r.Report(access.NewEvent("", access.ActionRevoked, "acme"))
	r.Report(access.NewEvent("", access.ActionCrossTenant, "rival"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	away.Store(false)
	require.Eventually(t, func() bool { return count() == 12 }, 20*time.Second, 5*time.Millisecond)
	for _, e := range got {
		require.NoError(t, e.Validate())
		require.Equal(t, "n1", e.Node)
	}
	r.Report(access.NewEvent("", access.ActionRevoked, "third"))
	cancel()
	<-done
	require.Equal(t, 13, count(), "what waits is published before the end")
}

// Whoever makes up API keys of made-up tenants does not fill the audit log.
func TestReporterBoundsStrangers(t *testing.T) {
	t.Parallel()
	var published atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // Run publishes what waits, and ends
	r := access.NewReporter("n", func(context.Context, access.Event) error { published.Add(1); return nil }, slog.New(slog.DiscardHandler))
	for i := range 600 {
		r.Report(access.NewEvent("", access.ActionKeyRefused, shardmap.TenantID(fmt.Sprintf("made-up-%d", i))))
	}
	r.Report(access.NewEvent("", access.ActionCrossTenant, "acme"))
	r.Run(ctx)
	require.Less(t, published.Load(), int64(400))
	require.Greater(t, published.Load(), int64(100), "the other tenant's event is not among those left out")
}
