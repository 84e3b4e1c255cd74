package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"

	"github.com/freehold-db/freehold/internal/secret"
)

// tombstones is where it is kept, in the KV engine, which keys were destroyed.
// The control plane's policy lets it write there once and never again.
const tombstones = "destroyed/"

// errNoKey: the transit engine has no key of that name (now).
var errNoKey = errors.New("no such key")

// DataKey implements [secret.Keys].
func (c *Client) DataKey(ctx context.Context, name string) (plain, wrapped []byte, err error) {
	if err := secret.CheckKeyName(name); err != nil {
		return nil, nil, err
	}
	answer, err := c.transit(ctx, true, "datakey/plaintext/"+name, nil)
	if errors.Is(err, errNoKey) {
		if err = c.makeKey(ctx, name); err == nil {
			answer, err = c.transit(ctx, true, "datakey/plaintext/"+name, nil)
		}
	}
	if err != nil {
		return nil, nil, c.of(ctx, name, err)
	}
	if plain, err = plaintext(answer); err != nil {
		return nil, nil, c.of(ctx, name, err)
	}
	return plain, []byte(text(answer, "ciphertext")), nil
}

// makeKey makes the named key, unless it was destroyed; also if that happens
// at this moment: whoever destroys leaves the tombstone first, then deletes.
func (c *Client) makeKey(ctx context.Context, name string) error {
	if err := c.destroyed(ctx, name); err != nil {
		return err
	}
	if _, err := c.transit(ctx, true, "keys/"+name, map[string]any{"type": "aes256-gcm96"}); err != nil {
		return err
	}
	err := c.destroyed(ctx, name)
	if errors.Is(err, secret.ErrDestroyed) {
		err = errors.Join(err, c.deleteKey(ctx, name))
	}
	return err
}

// Unwrap implements [secret.Keys].
func (c *Client) Unwrap(ctx context.Context, name string, wrapped []byte) ([]byte, error) {
	if err := secret.CheckKeyName(name); err != nil {
		return nil, err
	}
	answer, err := c.transit(ctx, true, "decrypt/"+name, map[string]any{"ciphertext": string(wrapped)})
	if err != nil {
		return nil, c.of(ctx, name, err)
	}
	plain, err := plaintext(answer)
	return plain, c.of(ctx, name, err)
}

// Rotate implements [secret.Keys].
func (c *Client) Rotate(ctx context.Context, name string) error {
	if err := secret.CheckKeyName(name); err != nil {
		return err
	}
	_, err := c.transit(ctx, false, "keys/"+name+"/rotate", nil)
	return c.of(ctx, name, err)
}

// Rewrap implements [secret.Keys]. The data key does not leave Vault.
func (c *Client) Rewrap(ctx context.Context, name string, wrapped []byte) ([]byte, error) {
	if err := secret.CheckKeyName(name); err != nil {
		return nil, err
	}
	answer, err := c.transit(ctx, true, "rewrap/"+name, map[string]any{"ciphertext": string(wrapped)})
	if err != nil {
		return nil, c.of(ctx, name, err)
	}
	return []byte(text(answer, "ciphertext")), nil
}

// Destroy implements [secret.Keys].
func (c *Client) Destroy(ctx context.Context, name string) error {
	if err := secret.CheckKeyName(name); err != nil {
		return err
	}
	_, err := c.Put(ctx, tombstones+name, secret.Login{User: "destroyed"}, 0)
	if err != nil && !errors.Is(err, secret.ErrConflict) {
		// A policy that lets it be written once refuses the second time; what counts is that it is there.
		if there := c.destroyed(ctx, name); !errors.Is(there, secret.ErrDestroyed) {
			return fmt.Errorf("key %s: %w", name, err)
		}
	}
	if err := c.deleteKey(ctx, name); err != nil {
		return fmt.Errorf("key %s: %w", name, err)
	}
	return nil
}

func (c *Client) deleteKey(ctx context.Context, name string) error {
	_, err := c.transit(ctx, true, "keys/"+name+"/config", map[string]any{"deletion_allowed": true})
	if errors.Is(err, errNoKey) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.do(ctx, true, func(ctx context.Context, at *api.Client) error {
		_, err := at.Logical().DeleteWithContext(ctx, c.cfg.TransitMount+"/keys/"+name)
		if says(translate(err), "not found") { // another deleted it
			return nil
		}
		return err
	})
}

// destroyed is ErrDestroyed if a key's tombstone is there, nil if not.
func (c *Client) destroyed(ctx context.Context, name string) error {
	_, _, err := c.Get(ctx, tombstones+name)
	if err == nil {
		return secret.ErrDestroyed
	}
	if errors.Is(err, secret.ErrNotFound) {
		return nil
	}
	return err
}

// of says of which key err is, and whether one that is not there was destroyed.
func (c *Client) of(ctx context.Context, name string, err error) error {
	if errors.Is(err, errNoKey) {
		if err = c.destroyed(ctx, name); err == nil {
			err = secret.ErrNotFound
		}
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("key %s: %w", name, err)
}

// transit asks the transit engine: errNoKey, ErrWrapped for what it can't open.
func (c *Client) transit(ctx context.Context, again bool, path string, with map[string]any) (answer *api.Secret, err error) {
	err = c.do(ctx, again, func(ctx context.Context, at *api.Client) (err error) {
		answer, err = at.Logical().WriteWithContext(ctx, c.cfg.TransitMount+"/"+path, with)
		return err
	})
	switch {
	case says(err, "key not found"), says(err, "no existing key named"):
		return nil, errNoKey
	case says(err, ""):
		return nil, fmt.Errorf("%w: %w", secret.ErrWrapped, err)
	}
	return answer, err
}

func text(answer *api.Secret, field string) string {
	if answer == nil {
		return ""
	}
	s, _ := answer.Data[field].(string)
	return s
}

func plaintext(answer *api.Secret) ([]byte, error) {
	plain, err := base64.StdEncoding.DecodeString(text(answer, "plaintext"))
	if err != nil || len(plain) != secret.DataKeySize {
		return nil, fmt.Errorf("%w: it is no data key", secret.ErrWrapped)
	}
	return plain, nil
}
