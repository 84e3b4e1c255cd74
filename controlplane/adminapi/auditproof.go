package adminapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/problem"
)

// Anchors keeps checkpoints of the audit log where the audit database's owner does not reach (*anchor.Keeper).
type Anchors interface {
	Anchor(ctx context.Context) error
	Witness() audit.Elsewhere
}

const (
	// maxExports bounds how many read the whole audit log at a time, maxProofs how many proofs a page has.
	maxExports = 2
	maxProofs  = 200
	// exportWrite bounds a write to somebody who reads the export slowly.
	exportWrite = 30 * time.Second
	// proofsPerSecond bounds what strangers may have us look up.
	proofsPerSecond = 20
)

// tenantAudit lists a tenant's records, and shows on wish that each is in the signed tree.
func (a *API) tenantAudit(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	f, p, err := readAuditFilter(c, "proofs")
	if err != nil {
		return answer{}, err
	}
	prove := c.query.Get("proofs") == "true"
	if s := c.query.Get("proofs"); s != "" && s != "true" && s != "false" {
		return answer{}, invalidParameter("proofs", "is neither true nor false")
	}
	if prove {
		p.limit = min(p.limit, maxProofs)
	}
	head, err := a.Audit.Latest(ctx)
	if err != nil {
		return answer{}, err
	}
	entries, next, err := a.Audit.ListTenant(ctx, id, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	page := pageOf("audit", entries, next, auditDoc)
	doc := api.TenantAudit{Items: page.Items, NextCursor: page.NextCursor, Checkpoint: head.Note}
	for i := 0; prove && i < len(entries); i++ {
		doc.Items[i].Leaf = entries[i].Text
		if entries[i].Position > head.Size {
			continue // not signed yet
		}
		path, err := a.Audit.Inclusion(ctx, entries[i].Position, head.Size)
		if err != nil {
			return answer{}, err
		}
		doc.Items[i].Proof = hashesDoc(path)
	}
	return ok(doc)
}

func hashesDoc(path []tlog.Hash) []string {
	doc := make([]string, len(path))
	for i, h := range path {
		doc[i] = base64.StdEncoding.EncodeToString(h[:])
	}
	return doc
}

// exportAudit streams the whole log and what witnesses say of it, as lines of JSON that [proof.Verify] checks.
func (a *API) exportAudit(_ context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	select {
	case a.exports <- struct{}{}:
	default:
		return answer{}, problem.New(http.StatusServiceUnavailable, "too_many_exports", "this replica gives out as many exports of the audit log as it may",
			"try again when another has ended")
	}
	var anchors audit.Elsewhere
	if a.Anchors != nil {
		anchors = a.Anchors.Witness()
	}
	return answer{stream: func(ctx context.Context, w gin.ResponseWriter) {
		defer func() { <-a.exports }()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Accel-Buffering", "no")
		w.WriteHeader(http.StatusOK)
		out := &patient{ResponseWriter: w, control: http.NewResponseController(w)}
		if err := proof.Write(out, a.Audit.Export(ctx, a.Sources, anchors)); err != nil && ctx.Err() == nil {
			a.Log.WarnContext(ctx, "export of the audit log ended early", "request_id", c.actor.RequestID, "error", err)
		}
	}}, nil
}

// patient gives every write time of its own.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(exportWrite)) // a recorder in a test has none
	return p.ResponseWriter.Write(b)
}

// anchorAudit signs the log now, and tells which places have the checkpoint.
func (a *API) anchorAudit(ctx context.Context, c *call) (answer, error) {
	if a.Anchors == nil {
		return answer{}, problem.New(http.StatusServiceUnavailable, "no_anchors", "this replica does not sign the audit log", "ask another replica")
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	why := a.Anchors.Anchor(ctx)
	head, err := a.Audit.Latest(ctx)
	if err != nil {
		return answer{}, err
	}
	doc := api.AuditCheckpoint{Records: head.Size, Checkpoint: head.Note, Anchored: why == nil}
	outcome := "ok"
	if why != nil {
		outcome = "failed"
		a.Log.WarnContext(ctx, "audit log is not anchored everywhere", "request_id", c.actor.RequestID, "error", why)
	}
	err = a.record(ctx, catalog.AuditRecord{Actor: c.actor, Action: "audit.checkpoint", Object: "audit", Outcome: outcome})
	if err != nil {
		return answer{}, err
	}
	return ok(doc)
}

// publicAudit are the routes by which anybody holds the log to what it was:
// hashes and signatures, which tell nothing of any record.
func (a *API) publicAudit(e *gin.Engine) {
	e.GET("/audit/checkpoint", a.limited(func(c *gin.Context) error {
		head, err := a.Audit.Latest(c.Request.Context())
		if err != nil {
			return err
		}
		if head.Size == 0 {
			return problem.New(http.StatusNotFound, "no_checkpoint", "nothing was signed yet", "try again in a minute")
		}
		c.Data(http.StatusOK, "text/plain; charset=utf-8", []byte(head.Note))
		return nil
	}))
	e.GET("/audit/keys", a.limited(func(c *gin.Context) error {
		keys, err := a.Audit.Keys(c.Request.Context())
		if err != nil {
			return err
		}
		c.Data(http.StatusOK, "text/plain; charset=utf-8", []byte(keys.String()))
		return nil
	}))
	e.GET("/audit/consistency", a.limited(a.consistency))
}

func (a *API) consistency(c *gin.Context) error {
	query := c.Request.URL.Query()
	if err := onlyParameters(query, "from", "to"); err != nil {
		return err
	}
	var sizes [2]int64
	for i, name := range []string{"from", "to"} {
		n, err := strconv.ParseInt(query.Get(name), 10, 64)
		if err != nil || n < 1 {
			return invalidParameter(name, "is not a size of the log")
		}
		sizes[i] = n
	}
	head, err := a.Audit.Latest(c.Request.Context())
	if err != nil {
		return err
	}
	if sizes[0] > sizes[1] || sizes[1] > head.Size {
		return invalidParameter("to", "is smaller than from, or larger than what was signed")
	}
	path, err := a.Audit.Extension(c.Request.Context(), sizes[0], sizes[1])
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, api.AuditConsistency{From: sizes[0], To: sizes[1], Proof: hashesDoc(path)})
	return nil
}

// limited keeps strangers from having the audit database do nothing else.
func (a *API) limited(do func(c *gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		c.Header("X-Content-Type-Options", "nosniff")
		if !a.proofs.Allow() {
			c.Header("Retry-After", "1")
			a.fail(c, problem.New(http.StatusTooManyRequests, "too_many_requests", "too many ask for proofs of the audit log at this moment", "try again in a second"))
			return
		}
		ctx, cancel := context.WithTimeout(c.Request.Context(), requestFor)
		defer cancel()
		c.Request = c.Request.WithContext(ctx)
		if err := do(c); err != nil {
			a.fail(c, err)
		}
	}
}
