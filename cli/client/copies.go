package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// ExportTenant starts to make a sealed copy of a tenant's database.
func (c *Client) ExportTenant(ctx context.Context, id string, in api.ExportTenant, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(id)+"/export", in, ch)
}

// Copies lists a tenant's sealed copies, oldest first; surviving leaves out those that are nowhere any more.
func (c *Client) Copies(ctx context.Context, id string, surviving bool) iter.Seq2[api.Copy, error] {
	q := url.Values{}
	setBool(q, "surviving", surviving)
	return pages[api.Copy](ctx, c, tenantPath(id)+"/copies", q)
}

// Copy shows one.
func (c *Client) Copy(ctx context.Context, tenant, id string) (api.Copy, error) {
	return get[api.Copy](ctx, c, copyPath(tenant, id), nil)
}

// DeleteCopy takes a held one away.
func (c *Client) DeleteCopy(ctx context.Context, tenant, id string, ch Change) (api.Copy, error) {
	return change[api.Copy](ctx, c, http.MethodDelete, copyPath(tenant, id), nil, ch)
}

// ImportCopy starts to make a new tenant of a held copy.
func (c *Client) ImportCopy(ctx context.Context, tenant, id string, in api.ImportCopy, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, copyPath(tenant, id)+"/import", in, ch)
}

// DownloadCopy writes a held copy's sealed file to w. What was written before
// an error is not the file.
func (c *Client) DownloadCopy(ctx context.Context, tenant, id string, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, copyPath(tenant, id)+"/content", nil, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	if resp.StatusCode != http.StatusOK {
		return read(resp, nil)
	}
	n, err := io.Copy(w, resp.Body)
	if err == nil && resp.ContentLength >= 0 && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("download of copy %s: %w", id, err)
	}
	return nil
}

// UploadCopy sends a sealed file of the tenant's back.
func (c *Client) UploadCopy(ctx context.Context, tenant string, file io.Reader, size int64, ch Change) (out api.Copy, err error) {
	u := *c.base
	u.Path += tenantPath(tenant) + "/copies"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), file)
	if err != nil {
		return out, err
	}
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", "tenant-ops")
	req.Header.Set("Content-Type", "application/octet-stream")
	if ch.Reason != "" {
		req.Header.Set(api.HeaderReason, ch.Reason)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		return out, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base.Redacted(), unwrapURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	return out, read(resp, &out)
}

// TenantKey says what is known of the key that a tenant's copies are sealed under.
func (c *Client) TenantKey(ctx context.Context, id string) (api.TenantKey, error) {
	return get[api.TenantKey](ctx, c, tenantPath(id)+"/key", nil)
}

// RotateTenantKey starts to give that key a new version.
func (c *Client) RotateTenantKey(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(id)+"/key/rotate", nil, ch)
}

// EraseTenant starts to make a tenant unrecoverable. It needs a reason.
func (c *Client) EraseTenant(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(id)+"/erase", nil, ch)
}

// Erasure reads an erased tenant's certificate.
func (c *Client) Erasure(ctx context.Context, id string) (api.Erasure, error) {
	return get[api.Erasure](ctx, c, tenantPath(id)+"/erasure", nil)
}

// ErasureKey reads the public key that certificates are verified with.
func (c *Client) ErasureKey(ctx context.Context) (api.ErasureKey, error) {
	return get[api.ErasureKey](ctx, c, "/v1/erasure-key", nil)
}

func copyPath(tenant, id string) string { return tenantPath(tenant) + "/copies/" + url.PathEscape(id) }
