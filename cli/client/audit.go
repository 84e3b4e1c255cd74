package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/problem"
)

// proofPage is how many records are proved at once.
const proofPage = 100

// TenantAudit lists a tenant's records with proofs, page by page with the
// checkpoint that they are of; an error ends the list.
func (c *Client) TenantAudit(ctx context.Context, tenant string, f AuditFilter) iter.Seq2[api.TenantAudit, error] {
	return func(yield func(api.TenantAudit, error) bool) {
		q := f.query()
		q.Del("tenant")
		q.Set("limit", strconv.Itoa(proofPage))
		q.Set("proofs", "true")
		for {
			page, err := get[api.TenantAudit](ctx, c, tenantPath(tenant)+"/audit", q)
			if !yield(page, err) || err != nil || page.NextCursor == "" {
				return
			}
			q.Set("cursor", page.NextCursor)
		}
	}
}

// AuditAbove lists records behind a position upwards, a page at most.
func (c *Client) AuditAbove(ctx context.Context, f AuditFilter, above int64) ([]api.AuditEntry, error) {
	q := f.query()
	q.Set("above", strconv.FormatInt(above, 10))
	q.Set("limit", strconv.Itoa(pageSize))
	page, err := get[api.Page[api.AuditEntry]](ctx, c, "/v1/audit", q)
	return page.Items, err
}

// ExportAudit reads the whole log as lines of JSON; the caller closes it. What
// was cut off lacks its last line.
func (c *Client) ExportAudit(ctx context.Context) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/audit/export", nil, nil, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close() //nolint:errcheck // read by then
		return nil, &Error{problem.Read(resp)}
	}
	return resp.Body, nil
}

// SignAudit has the audit log signed now.
func (c *Client) SignAudit(ctx context.Context, ch Change) (api.AuditCheckpoint, error) {
	return change[api.AuditCheckpoint](ctx, c, http.MethodPost, "/v1/audit/checkpoint", nil, ch)
}

// AuditCheckpoint is the newest signed checkpoint, AuditKeys the published verifier keys.
func (c *Client) AuditCheckpoint(ctx context.Context) ([]byte, error) {
	return c.text(ctx, "/audit/checkpoint")
}

// AuditKeys are the published verifier keys, one a line.
func (c *Client) AuditKeys(ctx context.Context) ([]byte, error) { return c.text(ctx, "/audit/keys") }

// AuditConsistency shows that the log of to records has all that the one of from had.
func (c *Client) AuditConsistency(ctx context.Context, from, to int64) (api.AuditConsistency, error) {
	return get[api.AuditConsistency](ctx, c, "/audit/consistency",
		url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}})
}

const maxText = 1 << 20

func (c *Client) text(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, path, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read by then
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{problem.Read(resp)}
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxText))
}
