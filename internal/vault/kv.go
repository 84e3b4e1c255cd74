package vault

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/vault/api"

	"github.com/freehold-db/freehold/internal/secret"
)

// stored is a login as it is kept in the KV engine.
type stored struct {
	Data     secret.Login `json:"data"`
	Metadata struct {
		Version int64 `json:"version"`
	} `json:"metadata"`
}

// Get implements [secret.Store].
func (c *Client) Get(ctx context.Context, path string) (secret.Login, int64, error) {
	if err := secret.CheckPath(path); err != nil {
		return secret.Login{}, 0, err
	}
	var s stored
	err := c.do(ctx, true, func(ctx context.Context, at *api.Client) error {
		answer, err := at.Logical().ReadRawWithContext(ctx, c.kv("data", path))
		if err != nil {
			return err
		}
		defer answer.Body.Close() //nolint:errcheck // read to its end or not at all
		return json.NewDecoder(answer.Body).Decode(&struct {
			Data *stored `json:"data"`
		}{&s})
	})
	if err != nil {
		return secret.Login{}, 0, fmt.Errorf("secret %s: %w", path, err)
	}
	return s.Data, s.Metadata.Version, nil
}

// Put implements [secret.Store].
func (c *Client) Put(ctx context.Context, path string, l secret.Login, version int64) (int64, error) {
	if err := secret.CheckPath(path); err != nil {
		return 0, err
	}
	var now json.Number
	// Not a second time: the first may have been done and its answer lost.
	err := c.do(ctx, false, func(ctx context.Context, at *api.Client) error {
		answer, err := at.Logical().WriteWithContext(ctx, c.kv("data", path), map[string]any{"data": l, "options": map[string]any{"cas": version}})
		if err == nil && answer != nil {
			now, _ = answer.Data["version"].(json.Number)
		}
		return err
	})
	if says(err, "check-and-set") {
		return 0, fmt.Errorf("secret %s: %w: is not at version %d", path, secret.ErrConflict, version)
	}
	if err != nil {
		return 0, fmt.Errorf("secret %s: %w", path, err)
	}
	return now.Int64()
}

// Delete implements [secret.Store]. All versions go.
func (c *Client) Delete(ctx context.Context, path string) error {
	if err := secret.CheckPath(path); err != nil {
		return err
	}
	err := c.do(ctx, true, func(ctx context.Context, at *api.Client) error {
		_, err := at.Logical().DeleteWithContext(ctx, c.kv("metadata", path))
		return err
	})
	if err != nil {
		return fmt.Errorf("secret %s: %w", path, err)
	}
	return nil
}

// kv is the path of a secret in the KV engine: of its data or its metadata.
func (c *Client) kv(part, path string) string {
	if c.cfg.Prefix != "" {
		path = c.cfg.Prefix + "/" + path
	}
	return c.cfg.KVMount + "/" + part + "/" + path
}
