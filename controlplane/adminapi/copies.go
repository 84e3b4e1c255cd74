package adminapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Copies is what the API needs of sealed copies (*copies.Service). Each change
// writes its own audit record when it succeeds.
type Copies interface {
	Export(ctx context.Context, id shardmap.TenantID, keep time.Duration, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Import(ctx context.Context, req copies.ImportRequest, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Receive(ctx context.Context, of shardmap.TenantID, body io.Reader, keep time.Duration, actor catalog.Actor) (catalog.Copy, error)
	Content(ctx context.Context, id string, actor catalog.Actor) (catalog.Copy, io.ReadCloser, error)
	Delete(ctx context.Context, id string, actor catalog.Actor) (catalog.Copy, error)
	Get(ctx context.Context, id string) (catalog.Copy, error)
	Copies(ctx context.Context, f catalog.CopyFilter, p catalog.Page) ([]catalog.Copy, string, error)
	RotateKey(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	GetKey(ctx context.Context, id shardmap.TenantID) (copies.Key, error)
}

func (a *API) exportTenant(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.ExportTenant
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	const most = int64(100 * 365 * 24 * time.Hour / time.Second) // what is less is judged by who keeps copies
	if in.KeepSeconds < 0 || in.KeepSeconds > most {
		return answer{}, invalidBody().At("/keep_seconds", "is negative, or too long")
	}
	return begun(a.Copies.Export(ctx, id, time.Duration(in.KeepSeconds)*time.Second, c.actor, c.key))
}

func (a *API) listCopies(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query, "limit", "cursor", "surviving"); err != nil {
		return answer{}, err
	}
	p, err := readPageByID("copies", c.query)
	if err != nil {
		return answer{}, err
	}
	f := catalog.CopyFilter{Tenant: id}
	if f.Surviving, err = readBool(c, "surviving"); err != nil {
		return answer{}, err
	}
	t, err := a.Catalog.GetTenant(ctx, id)
	if err != nil {
		return answer{}, err
	}
	list, next, err := a.Copies.Copies(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("copies", list, next, func(one catalog.Copy) api.Copy { return copyDoc(one, t.ErasedAt == nil) }))
}

// copyOf reads the copy that the path names, which must be the tenant's.
func (a *API) copyOf(ctx context.Context, c *call) (catalog.Copy, catalog.Tenant, error) {
	id, err := c.tenantID()
	if err != nil {
		return catalog.Copy{}, catalog.Tenant{}, err
	}
	t, err := a.Catalog.GetTenant(ctx, id)
	if err != nil {
		return catalog.Copy{}, t, err
	}
	found, err := a.Copies.Get(ctx, c.params.ByName("copy"))
	if err == nil && found.Tenant != id {
		err = fmt.Errorf("copy %s of tenant %s: %w", found.ID, id, catalog.ErrNotFound)
	}
	return found, t, err
}

func (a *API) getCopy(ctx context.Context, c *call) (answer, error) {
	found, t, err := a.copyOf(ctx, c)
	if err != nil {
		return answer{}, err
	}
	return ok(copyDoc(found, t.ErasedAt == nil))
}

func (a *API) deleteCopy(ctx context.Context, c *call) (answer, error) {
	found, t, err := a.copyOf(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if found, err = a.Copies.Delete(ctx, found.ID, c.actor); err != nil {
		return answer{}, err
	}
	return ok(copyDoc(found, t.ErasedAt == nil))
}

func (a *API) importCopy(ctx context.Context, c *call) (answer, error) {
	found, source, err := a.copyOf(ctx, c)
	if err != nil {
		return answer{}, err
	}
	var in api.ImportCopy
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.about("tenant", in.ID)
	req := copies.ImportRequest{Copy: found.ID, DisplayName: in.DisplayName}
	if req.Tenant, err = shardmap.ParseTenantID(in.ID); err != nil {
		return answer{}, badID(err, "/id")
	}
	c.tenant = req.Tenant
	// What is made of a copy bears its source's labels, as they are now.
	if err := c.may(c.verb.need, authority.Target{Tenant: req.Tenant, Labels: source.Labels}); err != nil {
		return answer{}, err
	}
	if in.To != "" {
		if req.To, err = shardmap.ParseShardID(in.To); err != nil {
			return answer{}, badID(err, "/to")
		}
	}
	if err := checkName("/display_name", in.DisplayName); err != nil {
		return answer{}, err
	}
	return begun(a.Copies.Import(ctx, req, c.actor, c.key))
}

// copyContent sends the sealed file. It gives nothing of the tenant's away to
// who has no key, and still is an operator's: it is counted.
func (a *API) copyContent(ctx context.Context, c *call) (answer, error) {
	found, _, err := a.copyOf(ctx, c)
	if err != nil {
		return answer{}, err
	}
	found, file, err := a.Copies.Content(ctx, found.ID, c.actor)
	if err != nil {
		return answer{}, err
	}
	return answer{stream: func(_ context.Context, w gin.ResponseWriter) {
		defer file.Close() //nolint:errcheck // only read
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.FormatInt(found.Bytes, 10))
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusOK)
		_, _ = io.Copy(&patient{ResponseWriter: w, control: http.NewResponseController(w)}, file) // what is missing, the caller sees by the length
	}}, nil
}

func (a *API) receiveCopy(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	held, err := a.Copies.Receive(ctx, id, c.stream, 0, c.actor)
	if err != nil {
		return answer{}, err
	}
	c.about("copy", held.ID)
	return answer{status: http.StatusCreated, doc: copyDoc(held, true)}, nil
}

func (a *API) getTenantKey(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	k, err := a.Copies.GetKey(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(api.TenantKey{Name: k.Name, Destroyed: k.Destroyed, Rotations: k.Rotations, RotatedAt: k.RotatedAt, RotatedBy: k.RotatedBy, Copies: len(k.Copies)})
}

func (a *API) rotateTenantKey(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Copies.RotateKey(ctx, id, c.actor, c.key))
}

func copyDoc(c catalog.Copy, readable bool) api.Copy {
	return api.Copy{ID: c.ID, Tenant: c.Tenant, State: string(c.State), WhyGone: c.WhyGone, Origin: c.Origin, SealedAs: c.SealedAs, Bytes: c.Bytes, SHA256: c.SHA256,
		LSN: c.LSN, SchemaVersion: c.SchemaVersion, TakenAt: c.TakenAt, HandedOut: c.HandedOut, CreatedBy: c.CreatedBy, CreatedAt: c.CreatedAt, ExpiresAt: c.ExpiresAt,
		GoneAt: c.GoneAt, Readable: readable}
}

// transferFor bounds the sending of a whole file, streamRead that of a piece of it.
const (
	transferFor = 24 * time.Hour
	streamRead  = 30 * time.Second
)

// unhurried reads a body for as long as pieces of it arrive.
func unhurried(w http.ResponseWriter, body io.Reader) io.Reader {
	return &bodyReader{body, http.NewResponseController(w)}
}

type bodyReader struct {
	r       io.Reader
	control *http.ResponseController
}

// Read gives each piece its time, and what is answered then, too.
func (p *bodyReader) Read(b []byte) (int, error) {
	now := time.Now()
	_ = p.control.SetReadDeadline(now.Add(streamRead)) // a recorder in a test has none
	_ = p.control.SetWriteDeadline(now.Add(streamRead + requestFor))
	return p.r.Read(b)
}
