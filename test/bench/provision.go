package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	colds    = 20
	fillFor  = 2 * time.Minute
	lookEach = 100 * time.Millisecond
)

// provision measures, over the admin API, from asking for a tenant until it is
// ready, first with databases from the warm pool, then with none in it, and
// each new tenant's first request.
func (b *bench) provision(ctx context.Context, f *fleet) error {
	if err := f.fillPool(ctx); err != nil {
		return err
	}
	// What is made in the background would be measured too.
	if err := f.Halt(ctx, "controlplane"); err != nil {
		return err
	}
	if err := f.Launch(ctx, "controlplane", "FREEHOLD_WARM_POOL=-1"); err != nil {
		return err
	}
	var warm, cold, first []float64
	for n := 0; len(cold) < colds; n++ {
		tenant := shardmap.TenantID(fmt.Sprintf("new-%d", n))
		began := time.Now()
		op, err := f.admin.CreateTenant(ctx, api.CreateTenant{ID: string(tenant)}, client.Change{})
		if err != nil {
			return err
		}
		if op, err = f.await(ctx, op); err != nil {
			return err
		}
		took := millis(time.Since(began))
		var receipt provision.CreateReceipt
		if err := json.Unmarshal(op.Receipt, &receipt); err != nil {
			return err
		}
		if receipt.Warm {
			warm = append(warm, took)
		} else {
			cold = append(cold, took)
		}
		took, err = f.firstRequest(ctx, tenant, n)
		if err != nil {
			return err
		}
		first = append(first, took)
	}
	if len(warm) == 0 {
		return fmt.Errorf("no tenant came from the pool")
	}
	r := &b.report
	r.title("Provisioning, over the admin API, on durable servers (fsync on): catalog, logins, audit and operation record included")
	r.atMost("tenant from the warm pool, median", "ms", median(warm), 10, fmt.Sprintf("of %d; 95 %% within %s", len(warm), figure(percentile(warm, 95), "ms")))
	r.atMost("tenant made on the spot, median", "ms", median(cold), 150, fmt.Sprintf("of %d; 95 %% within %s", len(cold), figure(percentile(cold, 95), "ms")))
	r.atMost("first request of a new tenant, median", "ms", median(first), 20, fmt.Sprintf("of %d; 95 %% within %s", len(first), figure(percentile(first, 95), "ms")))
	// Back to what the other sections want.
	if err := f.Halt(ctx, "controlplane"); err != nil {
		return err
	}
	return f.Launch(ctx, "controlplane")
}

// firstRequest reads of a tenant that no node has heard of.
func (f *fleet) firstRequest(ctx context.Context, tenant shardmap.TenantID, n int) (float64, error) {
	token, err := f.token(tenant)
	if err != nil {
		return 0, err
	}
	urls := f.Info().DataplaneURLs
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, urls[n%len(urls)]+"/rest/v1/members?limit=1", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	took := millis(time.Since(began))
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("first request of %s: %s", tenant, resp.Status)
	}
	_ = resp.Body.Close() // its head was all we wanted
	return took, err
}

// fillPool waits until both shards have their ready databases.
func (f *fleet) fillPool(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fillFor, fmt.Errorf("the warm pool did not fill in %s", fillFor))
	defer cancel()
	conn, err := pgx.Connect(ctx, f.Info().CatalogDSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it only reads
	for n := 0; n < 2*warmPool; {
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM databases WHERE state = 'ready'").Scan(&n); err != nil {
			return context.Cause(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEach):
		}
	}
	return nil
}
