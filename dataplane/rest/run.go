package rest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
	"github.com/freehold-db/freehold/dataplane/timing"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
)

// outcome is what a request's one statement returned, under the plan it ran by.
type outcome struct {
	plan   *plan.Plan
	schema *schema.Schema // of a document only
	row    [plan.Columns][]byte
	// buffer is where the body is, when its rows came one by one.
	buffer *buffer
	// guess is what Postgres expects as the number of rows; negative when not asked.
	guess int64
	// explained is the execution plan, when that was asked for.
	explained []byte
	// tooLarge is the size of a body that was dropped, or 0.
	tooLarge int64
	// allow are the verbs, when those were asked for.
	allow string
}

// maxTurns bounds how often a request goes to the database: to look at the
// schema, to run, to look again after a refusal, to run again, with room for a
// schema that is thrown out of the cache in between.
const maxTurns = 8

// errUnsettled ends a request whose schema did not stay in the cache long enough.
var errUnsettled = errors.New("the schema kept going out of the cache")

// run plans and executes a request. Before it executes anything the database
// checks, in the same transaction, that the schema is the one of the plan; when
// it is not, the schema is read anew and the request planned once more. So no
// request is answered by a schema older than the request.
//
// A refusal that an outdated schema could have caused is believed only after
// the schema was looked at again: the plan may have failed before the database
// had a say, or the schema changed between the check and the statement. Nothing
// was written then, for a failed statement leaves nothing behind.
func (h *Handler) run(ctx context.Context, id Identity, req *request) (*outcome, error) {
	access := router.ReadOnly
	if !reads(req.method) {
		access = router.ReadWrite
	}
	t := turn{h: h, id: id, req: req}
	for range maxTurns {
		t.known, t.believed, t.err = schema.Known{}, false, nil
		if err := h.door(id).Do(ctx, id.Tenant, access, t.session); err != nil {
			t.err = err
		}
		switch {
		case t.known.Schema == nil && t.err == nil:
			if err := h.schemas.Pace(ctx, t.database, req.exposed.of); err != nil {
				return nil, err
			}
			if err := h.router.Do(ctx, id.Tenant, router.ReadOnly, t.refresh); err != nil {
				return nil, err
			}
		case outdated(t.err):
			t.outdated++
			h.schemas.Doubt(t.database, req.exposed.of)
		case t.known.Schema == nil || t.believed || !doubtful(t.err):
			return t.out, h.translate(req, t.out, t.err)
		default:
			t.doubted, t.doubtedUnder = t.err, t.known.Fingerprint
			h.schemas.Doubt(t.database, req.exposed.of)
		}
	}
	if t.doubted != nil {
		return nil, h.translate(req, nil, t.doubted)
	}
	return nil, errUnsettled
}

// door is by which login the request enters. The schema is always read by the
// one for REST, which has no rights that could colour what it sees.
func (h *Handler) door(id Identity) Router {
	if _, by := tenantdb.ForREST("", id.Role); by == tenantdb.Owner {
		return h.opts.Owner
	}
	return h.router
}

// refresh reads the schema, as a read of its own: when its connection is lost,
// the router may repeat it.
func (t *turn) refresh(ctx context.Context, c *router.Conn) (err error) {
	t.fresh, err = t.h.schemas.Refresh(ctx, c.Placement.Database, t.req.exposed.of, c.PG)
	if errors.Is(err, schema.ErrTooLarge) {
		return pgrst.SchemaTooLarge().WithCause(err)
	}
	return err //nolint:wrapcheck // the router judges it as it is
}

// maxOutdated bounds how often a schema that was read for a request may turn out
// to be outdated. Where it changes all the time, one that was read after the
// request began is as good as any.
const maxOutdated = 2

// turn is one attempt of a request, and what earlier ones left.
type turn struct {
	h   *Handler
	id  Identity
	req *request

	// doubted is the refusal met under the schema of that fingerprint.
	doubted      error
	doubtedUnder schema.Fingerprint
	outdated     int          // how often the schema was
	fresh        schema.Known // was read for this request, for the next attempt

	// Set by session:
	database string
	known    schema.Known // without a schema: look at it first
	believed bool         // err stands: no fresh schema could change it
	out      *outcome
	err      error
}

// session runs the request if the schema is known. It keeps its own refusals
// in t.err; what it returns comes from the connection.
func (t *turn) session(ctx context.Context, c *router.Conn) error {
	timing.From(ctx).Mark(timing.Queue)
	t.out, t.err, t.believed = nil, nil, false
	t.database = c.Placement.Database
	t.known, t.fresh = t.fresh, schema.Known{}
	if t.known.Schema == nil {
		t.known = t.h.schemas.Lookup(t.database, t.req.exposed.of)
	} else if t.outdated >= maxOutdated {
		t.known.Stamp = nil
	}
	if t.known.Schema == nil {
		return nil
	}
	if t.doubted != nil {
		t.believed = true
		if t.known.Fingerprint == t.doubtedUnder {
			t.err = t.doubted
			return nil
		}
	}
	stamp := t.known.Stamp
	if t.req.Action == plan.ActionOptions {
		t.out = &outcome{}
		t.out.allow, t.err = allow(t.known.Schema, t.req)
		return nil
	}
	if t.req.document != nil {
		t.out = &outcome{plan: &plan.Plan{ReadOnly: true}, schema: t.known.Schema, guess: -1}
		return t.h.execute(ctx, c, t.id, t.req, t.out, stamp)
	}
	p, err := plan.Build(t.known.Schema, &t.req.Request)
	if err == nil && t.id.Related != nil {
		err = p.Related(func(n schema.Name) error { return t.id.Related(n.Schema, n.Name) })
	}
	if err != nil {
		t.err = err
		return nil
	}
	t.out = &outcome{plan: p, guess: -1}
	return t.h.execute(ctx, c, t.id, t.req, t.out, stamp)
}

// outdated tells whether err says that the schema is not the one of the plan any
// more. Nothing of the request was executed.
func outdated(err error) bool {
	if err == nil {
		return false
	}
	var s *settingsError // what the tenant's own SQL raises comes later
	var e *pgconn.PgError
	return errors.As(err, &s) && errors.As(err, &e) && e.Code == schemachange.Code
}

// doubtful tells whether err may be due to an outdated schema.
func doubtful(err error) bool {
	if err == nil {
		return false
	}
	var f *fault.Fault
	if errors.As(err, &f) {
		switch f.Code {
		case "42703", "PGRST108", "PGRST118", "PGRST200", "PGRST201", "PGRST202", "PGRST203", "PGRST204", "PGRST205":
			return true
		}
		return false
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "42P01", "42703", "42883", "42704", "42804", "42846", "42809", "42P10", "42P18", "3F000":
		return true
	case "23502": // a domain's, not a column's: see schema.Column.DomainNotNull
		return e.DataTypeName != ""
	}
	return false
}

// settingsError wraps what Postgres says of the session's settings, which is
// ours to get right and not for clients to read.
type settingsError struct{ err error }

func (e *settingsError) Error() string { return "session settings: " + e.err.Error() }
func (e *settingsError) Unwrap() error { return e.err }

// translate turns what the guard and the settings say into the dialect's faults.
func (h *Handler) translate(req *request, out *outcome, err error) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	var s *settingsError
	if errors.As(err, &s) {
		if req.prefer.timezone != "" && e.Code == "22023" && strings.Contains(e.Message, "TimeZone") {
			return e
		}
		if f := fault.From(err); f.Code == e.Code { // not the router's to explain
			return fmt.Errorf("%v", err) //nolint:errorlint // opaque on purpose
		}
		return err
	}
	if e.Code != "22P02" {
		return err
	}
	if n, ok := guarded(e.Message, plan.BytesPrefix); ok {
		return pgrst.AnswerTooLarge(n, req.Answer.MaxBytes)
	}
	n, ok := guarded(e.Message, plan.GuardPrefix)
	switch {
	case !ok:
		return err
	case out != nil && out.plan.Answer.Singular:
		return pgrst.NotSingular(n)
	default:
		return pgrst.TooManyAffected(n)
	}
}

// guarded reads the number that a guard failed with.
func guarded(message, prefix string) (int64, bool) {
	_, text, ok := strings.Cut(message, prefix)
	n, err := strconv.ParseInt(strings.TrimRight(text, `"`), 10, 64)
	return n, ok && err == nil
}
