// Package doctor looks at a running fleet for whatever is less tight than the
// platform makes it: grants, roles, settings, extensions, templates, pg_hba.conf,
// PgBouncer, TLS, the secret store. It changes nothing.
//
// What concerns a whole server is read from its shared catalogs in a few
// statements, however many databases it has; what is inside databases is looked
// at in so many of them as the caller says. Inside, it calls nothing but
// pg_catalog and reads no table of the tenant's (see package shard).
//
// Import law: of this module, doctor imports shardmap, internal packages, controlplane/catalog and controlplane/shard only.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Severity of a finding.
type Severity string

const (
	// Critical: somebody may have, or take, what is not theirs.
	Critical Severity = "critical"
	// Warning: a wall that others still stand behind is missing.
	Warning Severity = "warning"
	// Unknown: it could not be looked at.
	Unknown Severity = "unknown"
)

// Finding is one deviation.
type Finding struct {
	Severity Severity         `json:"severity"`
	Check    string           `json:"check"` // what was looked for: "public-grant", "hba-wall" …
	Shard    shardmap.ShardID `json:"shard,omitempty"`
	// Where is the database, role, line or setting.
	Where  string `json:"where,omitempty"`
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Report is what one look has found, the worst first.
type Report struct {
	At     time.Time `json:"at"`
	Shards int       `json:"shards"`
	// Databases are so many as there are, Looked those that were looked into.
	Databases int       `json:"databases"`
	Looked    int       `json:"looked"`
	Findings  []Finding `json:"findings"`
}

// Options of a look. Zero values mean the default in brackets.
type Options struct {
	// Shard is the only one to look at [all].
	Shard shardmap.ShardID
	// PerShard bounds how many databases of a shard are looked into, chosen by
	// chance [200]; below 0: all that there is time for.
	PerShard int
}

// perShard keeps a look at 10,000 databases of 50 shards to some seconds.
const perShard = 200

// Catalog is what a look needs of the catalog (*catalog.Store).
type Catalog interface {
	ListShards(ctx context.Context) ([]catalog.ShardUsage, error)
	ListDatabases(ctx context.Context, f catalog.DatabaseFilter, p catalog.Page) ([]catalog.Database, string, error)
}

// Doctor looks at a fleet. It is safe for concurrent use.
type Doctor struct {
	catalog Catalog
	fleet   *shard.Fleet
	secrets secret.Store
	expect  Expect
}

// Expect is what the fleet is meant to be.
type Expect struct {
	// Production expects TLS on every link and a secret store that is not the embedded one.
	Production bool
	// TLS is whether links to shards are to be secured.
	TLS bool
	// SecretsDir is the embedded store's directory, if that is in use.
	SecretsDir string
	// Audit tells how the audit log's outbox and its copy are; nil: that is not looked at.
	Audit func(ctx context.Context) Audit
	// Migrations is the directory of the application's schema; templates are to be of it.
	Migrations string
}

// New makes a Doctor.
func New(c Catalog, fleet *shard.Fleet, secrets secret.Store, expect Expect) *Doctor {
	return &Doctor{catalog: c, fleet: fleet, secrets: secrets, expect: expect}
}

// findings gathers them from many goroutines.
type findings struct {
	mu    sync.Mutex
	shard shardmap.ShardID
	list  []Finding
}

func (f *findings) add(s Severity, check, where, what, remedy string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, Finding{Severity: s, Check: check, Shard: f.shard, Where: where, What: what, Remedy: remedy})
}

// atOnce bounds the shards that are looked at at the same time, and inside one its databases.
const atOnce = 4

// Look looks at the fleet. What can't be reached is a finding, and keeps no
// other from being looked at. Errors: the catalog's.
func (d *Doctor) Look(ctx context.Context, o Options) (Report, error) {
	r := Report{At: time.Now().UTC()}
	shards, err := d.catalog.ListShards(ctx)
	if err != nil {
		return r, err
	}
	own := &findings{}
	d.lookAtSecrets(own)
	if d.expect.Audit != nil {
		d.expect.Audit(ctx).judge(own)
	}
	r.Findings = own.list
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, s := range shards {
		if o.Shard != "" && s.ID != o.Shard {
			continue
		}
		r.Shards++
		g.Go(func() error {
			names, err := d.databases(gctx, s.ID)
			if err != nil {
				return err
			}
			found := &findings{shard: s.ID}
			looked := d.lookAtShard(gctx, found, s.Shard, names, cmp.Or(o.PerShard, perShard))
			mu.Lock()
			defer mu.Unlock()
			r.Databases += len(names)
			r.Looked += looked
			r.Findings = append(r.Findings, found.list...)
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	if o.Shard != "" && r.Shards == 0 {
		return r, fmt.Errorf("shard %s: %w", o.Shard, catalog.ErrNotFound)
	}
	rank := map[Severity]int{Critical: 0, Warning: 1, Unknown: 2}
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Check, b.Check), cmp.Compare(a.Where, b.Where), cmp.Compare(a.What, b.What))
	})
	return r, nil
}

// databases are those of a shard that the catalog knows.
func (d *Doctor) databases(ctx context.Context, on shardmap.ShardID) (names []string, err error) {
	for page := (catalog.Page{Limit: 1000}); ; {
		rows, next, err := d.catalog.ListDatabases(ctx, catalog.DatabaseFilter{Shard: on}, page)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.State != catalog.DatabaseDropping {
				names = append(names, row.Name)
			}
		}
		if next == "" {
			return names, nil
		}
		page.After = next
	}
}

// lookAtShard returns how many databases were looked into.
func (d *Doctor) lookAtShard(ctx context.Context, f *findings, s catalog.Shard, names []string, most int) int {
	conn, err := d.fleet.Admin(ctx, s.ID, maintenance)
	if err != nil {
		f.add(Unknown, "unreachable", "postgres", err.Error(), "see that the server runs; then look again")
		return 0
	}
	defer closeConn(conn)
	for _, check := range serverChecks {
		if err := check.run(ctx, d, conn, f); err != nil {
			f.add(Unknown, check.name, "server", err.Error(), "look again; if it stays, the server is of a version that this check does not know")
		}
	}
	d.lookAtBouncer(ctx, f, s)
	there, err := known(ctx, conn, names)
	if err != nil {
		f.add(Unknown, "databases", "server", err.Error(), "look again")
		return 0
	}
	d.lookAtTemplates(ctx, f, conn)
	rand.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
	if most >= 0 && len(there) > most {
		there = there[:most]
	}
	d.lookAtVerifiers(ctx, f, conn, there)
	var g errgroup.Group
	g.SetLimit(atOnce)
	var looked atomic.Int64
	for _, name := range append([]string{shard.TemplateBase, shard.TemplateApp}, there...) {
		g.Go(func() error {
			if timeIsUp(ctx) {
				return nil
			}
			d.lookInto(ctx, f, s.ID, name)
			looked.Add(1)
			return nil
		})
	}
	_ = g.Wait() // no look fails
	return max(0, int(looked.Load())-2)
}

// answerFor is what a look leaves of its time for its report to arrive.
const answerFor = 10 * time.Second

// timeIsUp ends the looks into databases; how many there were is in the report.
func timeIsUp(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && time.Until(deadline) < answerFor
}
