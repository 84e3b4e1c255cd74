package feed

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	kvFor     = 500 * time.Millisecond // a question to the KV store, before the control plane is asked
	apiFor    = 1500 * time.Millisecond
	bodyLimit = access.MaxDocument
	// asksAtOnce bounds the questions to the control plane: a node with an empty map must not flood it.
	asksAtOnce = 32
)

var _ shardmap.Loader = (*Feed)(nil)

var errNoControl = errors.New("no control plane is configured")

func newHTTPClient(secure *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     secure,
			DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
			TLSHandshakeTimeout: time.Second,
			MaxIdleConnsPerHost: asksAtOnce,
			IdleConnTimeout:     30 * time.Second,
		},
		// The token goes to whom it is meant for, and to nobody they point at.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// LoadPlacement implements [shardmap.Loader]: the KV bucket's copy if it is
// newer than `than`, else what the control plane reads in the catalog. If the
// control plane can't be asked, the bucket's copy has to do.
func (f *Feed) LoadPlacement(ctx context.Context, tenant shardmap.TenantID, than shardmap.Epoch) (shardmap.Placement, error) {
	copied, kvErr := f.fromKV(ctx, tenant)
	if kvErr == nil && copied.Epoch > than {
		return copied, nil
	}
	body, err := f.ask(ctx, "/v1/placements/"+url.PathEscape(string(tenant)), shardmap.ErrUnknownTenant)
	switch {
	case errors.Is(err, shardmap.ErrUnknownTenant):
		return shardmap.Placement{}, err
	case err == nil:
		return decodePlacement(body, tenant)
	case kvErr == nil:
		return copied, nil
	default:
		return shardmap.Placement{}, errors.Join(err, kvErr)
	}
}

func (f *Feed) fromKV(ctx context.Context, tenant shardmap.TenantID) (shardmap.Placement, error) {
	value, err := f.get(ctx, &f.placements, string(tenant))
	if err != nil {
		return shardmap.Placement{}, err
	}
	return decodePlacement(value, tenant)
}

// LoadShard implements [shardmap.Loader]: the control plane's word first, since
// an address that leads nowhere is why it is asked again.
func (f *Feed) LoadShard(ctx context.Context, id shardmap.ShardID) (shardmap.Shard, error) {
	body, err := f.ask(ctx, "/v1/shards/"+url.PathEscape(string(id))+"/address", shardmap.ErrUnknownShard)
	if errors.Is(err, shardmap.ErrUnknownShard) {
		return shardmap.Shard{}, err
	}
	if err != nil {
		var kvErr error
		if body, kvErr = f.get(ctx, &f.shards, string(id)); kvErr != nil {
			return shardmap.Shard{}, errors.Join(err, kvErr)
		}
	}
	var s shardmap.Shard
	if err := json.Unmarshal(body, &s); err != nil {
		return shardmap.Shard{}, fmt.Errorf("address of shard %s: %w", id, err)
	}
	return s, nil
}

// get reads a key. That it is not there means nothing: the copy may be late.
func (f *Feed) get(ctx context.Context, b *bucket, key string) ([]byte, error) {
	if !f.nc.IsConnected() {
		return nil, errors.New("NATS is not connected")
	}
	ctx, cancel := context.WithTimeout(ctx, kvFor)
	defer cancel()
	var kv jetstream.KeyValue
	if known := b.kv.Load(); known != nil {
		kv = *known
	} else {
		var err error
		if kv, err = f.js.KeyValue(ctx, b.name); err != nil {
			return nil, fmt.Errorf("bucket %s: %w", b.name, err)
		}
	}
	entry, err := kv.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("bucket %s, key %s: %w", b.name, key, err)
	}
	return entry.Value(), nil
}

// ControlAnswers tells whether a control plane can be reached now.
func (f *Feed) ControlAnswers(ctx context.Context) bool {
	for _, base := range f.cfg.Control {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/healthz", nil)
		if err != nil {
			continue
		}
		resp, err := f.http.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

// ask reads path from the first control plane that answers. unknown is
// returned, wrapped, for that control plane's own 404.
func (f *Feed) ask(ctx context.Context, path string, unknown error) ([]byte, error) {
	select { // before a control plane's time to answer begins: it is not slow because many ask
	case f.asking <- struct{}{}:
		defer func() { <-f.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("control plane: wait to ask: %w", ctx.Err())
	}
	err := errNoControl
	for i, base := range f.cfg.Control {
		var body []byte
		var final bool
		if body, final, err = f.askOne(ctx, strings.TrimSuffix(base, "/")+path, unknown); err == nil || final {
			return body, err
		}
		if i == len(f.cfg.Control)-1 || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (f *Feed) askOne(ctx context.Context, address string, unknown error) (body []byte, final bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, fmt.Errorf("control plane: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+f.cfg.ControlToken)
	req.Header.Set("Accept", "application/json")
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, false, fmt.Errorf("control plane: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return nil, false, fmt.Errorf("control plane: %w", err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusOK:
		return body, true, nil
	case resp.StatusCode == http.StatusNotFound && kind == "application/problem+json":
		// Only the API itself says it in this form; a proxy's 404 proves nothing.
		return nil, true, fmt.Errorf("control plane: %w", unknown)
	default:
		return nil, false, fmt.Errorf("control plane: GET %s: %s", req.URL.Path, resp.Status)
	}
}
