// Package policy asks the fleet's and the tenants' Cedar policies whether a
// request may pass. Where there are none it costs nothing.
//
// Import law: of this module, policy imports dataplane/gateway/bearer, shardmap
// and internal packages only.
package policy

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/policy"
	"github.com/freehold-db/freehold/shardmap"
)

// ErrBroken: a policy cannot be read, so that nobody knows what it would
// refuse. The control plane lets none such in; if one is there all the same,
// whom it concerns is refused.
var ErrBroken = errors.New("a policy cannot be read")

// DeniedError is a request that policies do not let pass.
type DeniedError struct{ policy.Decision }

// Error names the policies.
func (d *DeniedError) Error() string {
	if len(d.Policies) == 0 {
		return "no policy permits it"
	}
	text := "forbidden by policy " + strings.Join(d.Policies, ", ")
	if len(d.Errors) > 0 {
		text += " (" + strings.Join(d.Errors, "; ") + ")"
	}
	return text
}

const (
	tenants    = 2000   // whose compiled policies are kept
	principals = 10_000 // kept as Cedar sees them
)

// Guard judges requests. It is safe for concurrent use.
type Guard struct {
	directory  *access.Directory
	log        *slog.Logger
	mu         sync.Mutex // compiling
	fleet      atomic.Pointer[compiled[access.Fleet]]
	tenants    *lru.Cache[shardmap.TenantID, *compiled[access.Tenant]]
	principals *lru.Cache[*bearer.Identity, policy.Principal]
}

// compiled is what became of one version of a document.
type compiled[T any] struct {
	of  *T
	set *policy.Set
	err error
}

// New makes a guard of the policies that are in the directory's documents.
func New(directory *access.Directory, log *slog.Logger) *Guard {
	g := &Guard{directory: directory, log: log}
	g.tenants, _ = lru.New[shardmap.TenantID, *compiled[access.Tenant]](tenants) // fails for a size below 1 only
	g.principals, _ = lru.New[*bearer.Identity, policy.Principal](principals)
	return g
}

// Idle tells whether there is no policy at all for requests of this identity.
func (g *Guard) Idle(id *bearer.Identity) bool {
	return len(g.directory.Fleet().Policies) == 0 && (id.Document == nil || len(id.Document.Policies) == 0)
}

// Check returns nil when the policies let the request pass, [*DeniedError] when
// they do not, and an error wrapping [ErrBroken] when they cannot be asked.
// What a resource and its context are is given without the tenant's part.
func (g *Guard) Check(id *bearer.Identity, what policy.What, with policy.Context) error {
	if g.Idle(id) {
		return nil
	}
	fleet, err := g.ofFleet(g.directory.Fleet())
	if err != nil {
		return err
	}
	var own *policy.Set
	if id.Document != nil {
		if own, err = g.ofTenant(id.Document); err != nil {
			return err
		}
		with.Attributes = id.Document.Attributes
	}
	what.Tenant = id.Tenant
	if d := policy.Judge(policy.NewRequest(g.principal(id), what, with), fleet, own); !d.Allowed {
		return &DeniedError{d}
	}
	return nil
}

func (g *Guard) principal(id *bearer.Identity) policy.Principal {
	p, ok := g.principals.Get(id)
	if !ok {
		who := policy.Who{Tenant: id.Tenant, Subject: id.Subject, Role: id.Role, Permissions: id.Permissions, Issuer: id.Issuer, Claims: []byte(id.Claims)}
		if id.KeyID != "" {
			who.Key, who.Subject = true, id.KeyID
		}
		p = policy.NewPrincipal(who)
		g.principals.Add(id, p)
	}
	return p
}

func (g *Guard) ofFleet(f *access.Fleet) (*policy.Set, error) {
	if c := g.fleet.Load(); c != nil && c.of == f {
		return c.set, c.err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.fleet.Load(); c != nil && c.of == f {
		return c.set, c.err
	}
	c := compile(f, "the fleet", f.Policies, g.log)
	g.fleet.Store(c)
	return c.set, c.err
}

func (g *Guard) ofTenant(t *access.Tenant) (*policy.Set, error) {
	if c, ok := g.tenants.Get(t.Tenant); ok && c.of == t {
		return c.set, c.err
	}
	g.mu.Lock() // one at a time: a change of many tenants' documents must not take all processors
	defer g.mu.Unlock()
	if c, ok := g.tenants.Get(t.Tenant); ok && c.of == t {
		return c.set, c.err
	}
	c := compile(t, "tenant "+string(t.Tenant), t.Policies, g.log)
	g.tenants.Add(t.Tenant, c)
	return c.set, c.err
}

func compile[T any](of *T, whose string, policies []access.Policy, log *slog.Logger) *compiled[T] {
	set, err := policy.Compile(policies)
	if err != nil {
		log.Error("policies cannot be read; whom they concern is refused", "of", whose, "error", err)
		err = fmt.Errorf("%w: %s: %w", ErrBroken, whose, err)
	}
	return &compiled[T]{of, set, err}
}
