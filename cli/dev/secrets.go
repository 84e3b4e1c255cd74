package dev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"github.com/freehold-db/freehold/deploy/sample"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
)

// login returns the login kept under path in the fleet's secret store, made on first use.
func (f *Fleet) login(ctx context.Context, path, user string) (secret.Login, error) {
	l, _, err := f.secrets.Get(ctx, path)
	if !errors.Is(err, secret.ErrNotFound) {
		return l, err
	}
	l = secret.Login{User: user, Password: pg.NewPassword(), Generation: 1}
	_, err = f.secrets.Put(ctx, path, l, 0)
	return l, err
}

func (f *Fleet) openSecrets(ctx context.Context) error {
	store, err := secret.OpenDir(f.dir.secrets())
	if err != nil {
		return err
	}
	f.secrets = store
	for _, want := range []struct {
		into       *secret.Login
		path, user string
	}{
		{&f.catalogLogin, "dev/catalog/catalog", catalogDatabase},
		{&f.auditOwner, "dev/catalog/audit", auditDatabase},
		{&f.auditLogin, "dev/catalog/audit-writer", "freehold_audit_log"},
		// One for all shards: after a move one shard's PgBouncer logs in at another's Postgres.
		{&f.lookup, "dev/lookup", "freehold_bouncer"},
		{&f.adminToken, "dev/tokens/admin", "dev"},
		{&f.nodeToken, "dev/tokens/node", "node"},
	} {
		if *want.into, err = f.login(ctx, want.path, want.user); err != nil {
			return err
		}
	}
	return f.writeTokens()
}

// writeTokens writes what the control plane checks bearer tokens against, and
// the token that nodes show it.
func (f *Fleet) writeTokens() error {
	type token struct {
		Name   string `json:"name"`
		Role   string `json:"role"`
		SHA256 string `json:"sha256"`
	}
	sum := func(l secret.Login) string {
		s := sha256.Sum256([]byte(l.Password))
		return hex.EncodeToString(s[:])
	}
	return errors.Join(
		writeJSON(f.tokensFile(), []token{
			{Name: f.adminToken.User, Role: "admin", SHA256: sum(f.adminToken)},
			{Name: f.nodeToken.User, Role: "node", SHA256: sum(f.nodeToken)},
		}),
		writeFile(f.nodeTokenFile(), []byte(f.nodeToken.Password+"\n")),
	)
}

func (f *Fleet) tokensFile() string    { return f.dir.config("tokens.json") }
func (f *Fleet) nodeTokenFile() string { return f.dir.config("node.token") }

// sampleSchema puts the default application schema into the fleet's
// directory, as it is in this program.
func (f *Fleet) sampleSchema() (string, error) {
	dir := f.dir.migrations()
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return "", err
	}
	files, err := sample.Migrations.ReadDir(".")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		b, err := sample.Migrations.ReadFile(file.Name())
		if err != nil {
			return "", err
		}
		if err := writeFile(filepath.Join(dir, file.Name()), b); err != nil {
			return "", err
		}
	}
	return dir, nil
}
