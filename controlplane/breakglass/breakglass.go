// Package breakglass opens tenants' databases to people: for a stated reason,
// for a bounded time, and, where the fleet wants that, with a second person's
// consent. It is the only way to such a login: what `tenant psql` and `tenant
// dsn` hand out is made here, too.
//
// Asking, consent, opening, each session seen at the server, and the end are
// in the audit log. A login ends by itself: the server refuses it from its last
// second on, whatever became of the control plane, and whichever replica sees
// that its time is over ends its sessions and drops it, on every shard that may
// have it. A move does not carry logins: at the new place access is opened anew.
//
// Import law: of this module, breakglass imports shardmap, internal packages, and
// controlplane/catalog and shard only.
package breakglass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. Their texts are for people.
var (
	// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
	ErrInvalid = errors.New("invalid request")
	// ErrNoReason: nobody opens a tenant's data without saying why.
	ErrNoReason = errors.New("no reason is given")
	// ErrApproval: somebody else has to consent first.
	ErrApproval = errors.New("another person's consent is needed")
	// ErrOwnRequest: who asked can't consent, not by another of his credentials either.
	ErrOwnRequest = errors.New("one's own request")
	// ErrNotYours: who asked for it opens it, and nobody else.
	ErrNotYours = errors.New("another's request")
	// ErrShard: the tenant's server did not answer or did not do it; no login was handed out.
	ErrShard = errors.New("the tenant's shard does not answer")
)

// State is where an access stands.
type State string

const (
	Waiting  State = "waiting"  // for consent; approve and time leave it
	Approved State = "approved" // who asked may open it
	Open     State = "open"     // there is a login
	Ending   State = "ending"   // its login is being dropped; it opens nothing any more
	Ended    State = "ended"    // nothing is left of it
)

// Session is one access of a person to one tenant's database.
type Session struct {
	ID         string
	Tenant     shardmap.TenantID
	Database   string
	As         shard.Access
	Reason     string
	For        time.Duration
	State      State
	AskedBy    string
	AskedAt    time.Time
	ApprovedBy string // empty: nobody had to
	ApprovedAt *time.Time
	Login      string // empty before it is opened
	OpenedAt   *time.Time
	// ExpiresAt is when the login ends; before it is opened, when the request lapses.
	ExpiresAt  time.Time
	EndedAt    *time.Time
	EndedBy    string
	Cause      string // why it ended: expired, ended, lapsed, failed, revoked
	Sessions   int    // of the login, as they were seen at the server
	LastUsedAt *time.Time
	root       string
	lapsed     bool // ExpiresAt is over, by the catalog's clock
	baseless   bool // what its asker's right hung on was taken back or is over
}

// Access is a login that was just made.
type Access struct {
	Placement shardmap.Placement
	// Host and Port are the shard's Postgres itself: psql and dumps need a
	// session of their own. BouncerHost and BouncerPort are for clients that
	// can do with one transaction at a time.
	Host        string
	Port        uint16
	BouncerHost string
	BouncerPort uint16
	Login       secret.Login // shown once, kept nowhere
	As          shard.Access
	ExpiresAt   time.Time
}

// Servers is what breakglass does at the shards (*shard.Fleet, by [AtShards]).
type Servers interface {
	// Make makes the login, to work as stated until ttl is over by the server's clock.
	Make(ctx context.Context, on shardmap.ShardID, database, user string, as shard.Access, ttl time.Duration) (secret.Login, time.Time, error)
	// Drop ends the login's sessions and drops it; one that is not there is no error.
	Drop(ctx context.Context, on shardmap.ShardID, database, user string) error
	// Sessions lists those of all temporary logins at a shard.
	Sessions(ctx context.Context, on shardmap.ShardID) ([]shard.TempSession, error)
}

// Options says how access is given.
type Options struct {
	// Max bounds how long a login lasts; zero: 8 hours.
	Max time.Duration
	// Approval wants another person's consent for every login.
	Approval bool
	// Reason wants a reason for every login; asked for by break-glass, one is always wanted.
	Reason bool
	// Every is the time between looks at what is open; zero: 2 seconds.
	Every  time.Duration
	Logger *slog.Logger
}

const (
	defaultMax = 8 * time.Hour
	// defaultFor is for whoever does not say how long.
	defaultFor = time.Hour
	// consentFor is how long a request waits for consent, and then to be opened.
	consentFor = 4 * time.Hour
)

// Service is one replica's. Any number may run on one catalog. All methods are safe for concurrent use.
type Service struct {
	store   *catalog.Store
	servers Servers
	opt     Options
	wake    chan struct{}
}

// New makes the service.
func New(store *catalog.Store, servers Servers, opt Options) *Service {
	if opt.Max == 0 {
		opt.Max = defaultMax
	}
	if opt.Every == 0 {
		opt.Every = 2 * time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	return &Service{store: store, servers: servers, opt: opt, wake: make(chan struct{}, 1)}
}

// Spec asks for access.
type Spec struct {
	Tenant shardmap.TenantID
	As     shard.Access  // empty: ro
	For    time.Duration // zero: an hour, or less if no more is allowed
	// Token is the access token that it is asked with, Bindings those without any of
	// which the asker might not: when they are gone, the access ends. Empty: it hangs on none.
	Token    string
	Bindings []string
	// Casual is the access that tenant psql and dsn ask for: it needs a reason
	// only if [Options.Reason] says so.
	Casual bool
}

// Ask asks for access. Where nobody has to consent, it is opened at once, and
// the login comes back with it; else the access is nil, and the session waits.
// root is who answers for the actor (authority.Principal.Root).
// Errors: ErrInvalid, ErrNoReason, ErrApproval (of casual access), ErrShard;
// catalog.ErrNotFound, ErrConflict (the tenant is not active).
func (s *Service) Ask(ctx context.Context, spec Spec, actor catalog.Actor, root string) (Session, *Access, error) {
	var none Session
	if spec.As == "" {
		spec.As = shard.AccessRO
	}
	if _, ok := spec.As.Role(""); !ok {
		return none, nil, fmt.Errorf("%w: access as %.20q: want owner, rw or ro", ErrInvalid, spec.As)
	}
	if spec.For == 0 {
		spec.For = min(defaultFor, s.opt.Max)
	}
	if spec.For < time.Second || spec.For > s.opt.Max {
		return none, nil, fmt.Errorf("%w: %s: want from 1s to %s", ErrInvalid, spec.For, s.opt.Max)
	}
	if actor.Reason == "" && (s.opt.Reason || !spec.Casual) {
		return none, nil, fmt.Errorf("access to tenant %s: %w", spec.Tenant, ErrNoReason)
	}
	if s.opt.Approval && spec.Casual {
		return none, nil, fmt.Errorf("access to tenant %s: %w", spec.Tenant, ErrApproval)
	}
	state := Approved
	if s.opt.Approval {
		state = Waiting
	}
	id := uuid.Must(uuid.NewV7()).String()
	var asked Session
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.tenant(ctx, tx, spec.Tenant)
		if err != nil {
			return err
		}
		asked, err = one(ctx, tx, `insert into break_glass as b (id, tenant, database, works_as, reason, seconds, state, asked_by, asked_root, expires_at, token, bindings)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp() + make_interval(secs => $10), nullif($11, ''), $12) returning `+columns,
			id, spec.Tenant, t.Placement.Database, spec.As, actor.Reason, int(spec.For/time.Second), state, actor.Name, root, consentFor.Seconds(), spec.Token, append([]string{}, spec.Bindings...))
		if err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "break-glass.ask", asked, "accepted", map[string]any{"as": spec.As, "for": spec.For.String(), "state": state})
	})
	if err != nil {
		return none, nil, err
	}
	if state == Waiting {
		return asked, nil, nil
	}
	return s.Open(ctx, id, actor)
}

// tenant reads one that can be opened.
func (s *Service) tenant(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) (catalog.Tenant, error) {
	t, err := s.store.LockTenant(ctx, tx, id)
	if err != nil {
		return t, err
	}
	if t.Placement.State != shardmap.Active || t.PurgedAt != nil {
		return t, fmt.Errorf("tenant %s is %s and must be active: %w", id, t.Placement.State, catalog.ErrConflict)
	}
	return t, nil
}

// Approve consents to another's request. Errors: catalog.ErrNotFound,
// ErrConflict (it does not wait), ErrOwnRequest.
func (s *Service) Approve(ctx context.Context, id string, actor catalog.Actor, root string) (Session, error) {
	return s.change(ctx, id, func(ctx context.Context, tx pgx.Tx, b Session) (Session, error) {
		if b.AskedBy == actor.Name || b.root == root {
			return b, fmt.Errorf("break-glass access %s: %w can't be approved", id, ErrOwnRequest)
		}
		if b.State != Waiting || b.lapsed {
			return b, b.not(Waiting)
		}
		b, err := one(ctx, tx, `update break_glass as b set state = 'approved', approved_by = $2, approved_at = clock_timestamp(),
			expires_at = clock_timestamp() + make_interval(secs => $3) where id = $1 returning `+columns, id, actor.Name, consentFor.Seconds())
		if err != nil {
			return b, err
		}
		return b, s.record(ctx, tx, actor, "break-glass.approve", b, "ok", map[string]any{"asked_by": b.AskedBy, "as": b.As, "for": b.For.String()})
	})
}

// Open makes the login of an access that nobody has to consent to any more,
// and hands it to who asked for it, this once.
// Errors: catalog.ErrNotFound, ErrConflict (it waits, was opened or has ended; the tenant is not active),
// ErrNotYours, ErrShard.
func (s *Service) Open(ctx context.Context, id string, actor catalog.Actor) (Session, *Access, error) {
	var at shardmap.Placement
	b, err := s.change(ctx, id, func(ctx context.Context, tx pgx.Tx, b Session) (Session, error) {
		if b.AskedBy != actor.Name {
			return b, fmt.Errorf("break-glass access %s: %w", id, ErrNotYours)
		}
		if b.State != Approved || b.lapsed || b.baseless {
			return b, b.not(Approved)
		}
		t, err := s.tenant(ctx, tx, b.Tenant)
		if err != nil {
			return b, err
		}
		at = t.Placement
		// The row goes first: what is not written down could not be taken away again.
		b, err = one(ctx, tx, `update break_glass as b set state = 'open', login = $2, opened_at = clock_timestamp(),
			expires_at = clock_timestamp() + make_interval(secs => seconds) where id = $1 returning `+columns, id, shard.NewTempUser(at.Database))
		if err != nil {
			return b, err
		}
		return b, s.record(ctx, tx, actor, "break-glass.open", b, "ok", map[string]any{"login": b.Login, "as": b.As, "until": b.ExpiresAt.UTC(), "shard": at.Shard, "approved_by": b.ApprovedBy})
	})
	if err != nil {
		return b, nil, err
	}
	access, err := s.make(ctx, b, at)
	if err == nil {
		var now Session
		if now, err = s.Get(ctx, id); err == nil && now.baseless {
			now, err = s.finish(ctx, id, "revoked", system("what it was asked for with was taken back or is over"))
		}
		if err == nil && now.State != Open {
			s.undo(ctx, b)
			return now, nil, now.not(Open)
		}
	}
	if err != nil {
		s.opt.Logger.WarnContext(ctx, "break-glass login was not made", "access", id, "shard", at.Shard, "error", err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endFor)
		defer cancel()
		_, ended := s.finish(ctx, id, "failed", system("its login could not be made"))
		if ended != nil {
			s.opt.Logger.WarnContext(ctx, "break-glass access whose login was not made is open until it expires", "access", id, "error", ended)
		}
		return b, nil, fmt.Errorf("break-glass access to tenant %s: %w", b.Tenant, ErrShard)
	}
	s.Wake()
	return b, access, nil
}

// undo drops a login that was made after its access had ended. Nobody was told
// its password, so that it opens nothing even while its server is away.
func (s *Service) undo(ctx context.Context, b Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endFor)
	defer cancel()
	if err := s.drop(ctx, b); err != nil {
		s.opt.Logger.WarnContext(ctx, "login of an access that ended meanwhile is not dropped before its time", "access", b.ID, "login", b.Login, "error", err)
	}
}

func (s *Service) make(ctx context.Context, b Session, at shardmap.Placement) (*Access, error) {
	on, err := s.store.GetShard(ctx, at.Shard)
	if err != nil {
		return nil, err
	}
	login, until, err := s.servers.Make(ctx, at.Shard, at.Database, b.Login, b.As, b.For)
	if err != nil {
		return nil, err
	}
	return &Access{Placement: at, Host: on.PostgresHost, Port: on.PostgresPort, BouncerHost: on.BouncerHost, BouncerPort: on.BouncerPort,
		Login: login, As: b.As, ExpiresAt: until}, nil
}

// End ends an access before its time, whatever state it is in: its login opens
// nothing any more when End returns, unless the server does not answer, and
// then as soon as it does. One that has ended is left as it is.
// Errors: catalog.ErrNotFound.
func (s *Service) End(ctx context.Context, id string, actor catalog.Actor) (Session, error) {
	return s.finish(ctx, id, "ended", actor)
}

// Get reads one. Errors: catalog.ErrNotFound, also for an ID that is no UUID.
func (s *Service) Get(ctx context.Context, id string) (Session, error) {
	if uuid.Validate(id) != nil {
		return Session{}, fmt.Errorf("break-glass access %.64q: %w", id, catalog.ErrNotFound)
	}
	b, err := one(ctx, s.store.Pool(), `select `+columns+` from break_glass b where id = $1`, id)
	if err != nil {
		return b, fmt.Errorf("break-glass access %s: %w", id, err)
	}
	return b, nil
}

// Filter narrows a list; zero fields don't.
type Filter struct {
	Tenant shardmap.TenantID
	Live   bool // only what has not ended
	Sight  *catalog.Sight
}

// List lists newest first. next is the cursor of the following page, empty after the last.
func (s *Service) List(ctx context.Context, f Filter, p catalog.Page) (list []Session, next string, err error) {
	if p.After != "" && uuid.Validate(p.After) != nil {
		return nil, "", fmt.Errorf("list break-glass accesses: cursor %.64q: %w", p.After, catalog.ErrNotFound)
	}
	seen, sight := f.Sight.Seen("b.tenant", 5)
	list, err = many(ctx, s.store.Pool(), `select `+columns+` from break_glass b
		where ($1 = '' or b.id < nullif($1, '')::uuid) and ($2 = '' or b.tenant = $2) and (not $3 or b.state <> 'ended') and `+seen+`
		order by b.id desc limit $4`, append([]any{p.After, f.Tenant, f.Live, p.Rows() + 1}, sight...)...)
	if err != nil {
		return nil, "", fmt.Errorf("list break-glass accesses: %w", err)
	}
	list, next = catalog.CutPage(p, list, func(b Session) string { return b.ID })
	return list, next, nil
}

func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action string, b Session, outcome string, details map[string]any) error {
	if actor.Reason == "" {
		actor.Reason = b.Reason
	}
	details["access"] = b.ID
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit record %s: %w", action, err)
	}
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: "tenant/" + string(b.Tenant), Tenant: b.Tenant, Outcome: outcome, Details: text})
}

func system(reason string) catalog.Actor {
	return catalog.Actor{Name: "system", Role: "system", Reason: reason}
}
