// Package sqlhttp serves SQL over HTTP in the format of Neon's driver
// (@neondatabase/serverless): one statement or a batch, run as one transaction,
// the rows as JSON with the types' OIDs. The SQL is the caller's own, so it runs
// by a login that can become no other role than the caller's, and leaves nothing
// of its session behind in the pooled connection (see session.go).
//
// Where it differs from Neon on purpose: statements that begin or end
// transactions, COPY, and those that change a login itself are refused;
// the connection string never decides where a request goes.
//
// Import law: of this module, sqlhttp imports shardmap, router, dataplane/fault,
// dataplane/intake and internal packages only.
package sqlhttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

// Path is where SQL is served.
const Path = "/sql"

// Door gives a session with a tenant's database by one login; see router.Door.
type Door interface {
	Do(ctx context.Context, tenant shardmap.TenantID, access router.Access, run router.Session) error
}

// Identity is who asks, as the gateway verified it.
type Identity struct {
	Tenant shardmap.TenantID
	// Role is the access role; see tenantdb.ForSQL.
	Role string
	// MayUseSQL says that the bearer has the permission for SQL.
	MayUseSQL bool
	// Claims are the token's claims, for SQL to read as request.jwt.claims.
	Claims json.RawMessage
	// Limits are the tenant's; what is zero is the node's.
	Limits access.Limits
}

// Limits bounds requests and answers. Zero fields take the defaults.
type Limits struct {
	// MaxRows bounds one statement's rows, MaxAnswer the answer's bytes, MaxBatch a batch's statements.
	MaxRows   int   `yaml:"max_rows" env:"FREEHOLD_SQL_MAX_ROWS"`
	MaxAnswer int64 `yaml:"max_answer" env:"FREEHOLD_SQL_MAX_ANSWER"`
	MaxBatch  int   `yaml:"max_batch" env:"FREEHOLD_SQL_MAX_BATCH"`
	// StatementFor bounds one statement.
	StatementFor time.Duration `yaml:"statement_for" env:"FREEHOLD_SQL_STATEMENT_FOR"`
	// Owner lets owners run SQL: see docs/operators/sql.md before.
	Owner bool `yaml:"owner" env:"FREEHOLD_SQL_OWNER"`
}

// Defaults fills what is zero.
func (l *Limits) Defaults() {
	config.Default(&l.MaxRows, 100_000)
	config.Default(&l.MaxAnswer, 16<<20)
	config.Default(&l.MaxBatch, 100)
	config.Default(&l.StatementFor, 25*time.Second)
}

// Options of a [Handler].
type Options struct {
	Limits
	// Door returns the door of a login.
	Door func(tenantdb.Login) Door
	// Identify finds who asks in a request's context.
	Identify func(context.Context) (Identity, bool)
	// Domain, when set, makes a connection string's host `<tenant>.<Domain>` name a tenant.
	Domain string
	// Crossed is told of requests that were refused because they name another
	// tenant than their credential's; nil: nobody is.
	Crossed func(c *gin.Context, named, message string)
}

// under are the limits of one request: the tenant's, then the node's.
func (l Limits) under(own access.Limits) Limits {
	if own.MaxRows > 0 {
		l.MaxRows = own.MaxRows
	}
	if own.MaxAnswer > 0 {
		l.MaxAnswer = own.MaxAnswer
	}
	if own.StatementFor > 0 {
		l.StatementFor = own.StatementFor
	}
	return l
}

// Handler serves SQL for any tenant. It holds no resources of its own.
type Handler struct{ opts Options }

// New makes a handler.
func New(opts Options) *Handler {
	opts.Defaults()
	return &Handler{opts}
}

// Register mounts it.
func (h *Handler) Register(routes gin.IRoutes) { routes.POST(Path, h.serve) }

func (h *Handler) serve(c *gin.Context) {
	answer, err := h.answer(c)
	if err != nil {
		refuse(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, "application/json", answer)
}

func (h *Handler) answer(c *gin.Context) ([]byte, error) {
	ctx := c.Request.Context()
	id, ok := h.opts.Identify(ctx)
	if !ok {
		return nil, fault.New(http.StatusUnauthorized, "PGRST302", "Anonymous access is disabled")
	}
	if !id.MayUseSQL {
		return nil, fault.New(http.StatusForbidden, "sql_not_permitted", "The bearer may not use SQL").
			WithHint(`Use a token with "sql" in its claim permissions, or an API key with the permission sql.`)
	}
	login, err := tenantdb.ForSQL(id.Role)
	if err != nil {
		return nil, fault.New(http.StatusForbidden, "role_without_sql", "Roles of the tenant's own cannot use SQL").
			WithHint("Use a viewer's, an editor's or an owner's credential, or REST.")
	}
	if login == tenantdb.Owner && !h.opts.Owner {
		return nil, fault.New(http.StatusForbidden, "owner_sql_disabled", "SQL of owners is disabled here").
			WithHint("Use an editor's or a viewer's credential; schemas are changed by migrations.")
	}
	req, err := h.read(c.Request, id)
	if other := new(crossing); h.opts.Crossed != nil && errors.As(err, &other) {
		h.opts.Crossed(c, other.named, misnamed)
	}
	if err != nil {
		return nil, err
	}
	if err := permitted(req.statements, login); err != nil {
		return nil, err
	}
	if login == tenantdb.SQLRead {
		req.readOnly = true
	}
	may := router.ReadWrite
	if req.readOnly {
		may = router.ReadOnly // a second run does no harm
	}
	var out *outcome
	err = h.opts.Door(login).Do(ctx, id.Tenant, may, func(ctx context.Context, conn *router.Conn) (err error) {
		out, err = h.run(ctx, conn, login, id, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if out.err == nil {
		req.echo(c.Request.Header, c.Writer.Header())
	}
	return out.answer, out.err
}
