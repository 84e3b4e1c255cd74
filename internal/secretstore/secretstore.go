// Package secretstore opens the secret store that a server's configuration
// names: the one place where both planes learn which there are.
//
// Import law: of this module, secretstore imports internal packages only.
package secretstore

import (
	"context"
	"log/slog"

	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/vault"
)

// The stores there are.
const (
	Dir   = "dir"   // encrypted files, see secret.OpenDir
	Vault = "vault" // HashiCorp Vault
)

// What a fleet can be for.
const (
	Development = "development"
	Production  = "production"
)

// Named is what a configuration says. The field names of the servers'
// configurations are those in the errors.
type Named struct {
	Store       string // Dir or Vault
	SecretsDir  string // of Dir
	Environment string // Development or Production
	// EmbeddedSecrets lets Dir serve in Production: its master keys lie beside what they seal.
	EmbeddedSecrets bool
	Vault           vault.Config
}

// Check adds what is wrong to the faults.
func (n *Named) Check(faults *config.Faults) {
	check := faults.Check
	check(n.Environment == Development || n.Environment == Production, "environment: %q: want %s or %s", n.Environment, Development, Production)
	switch n.Store {
	case Dir:
		check(n.SecretsDir != "", "secrets_dir: where are the logins kept?")
		check(n.Environment != Production || n.EmbeddedSecrets,
			"secret_store: in production logins do not lie in a directory with their master keys: use %s, or accept it with embedded_secrets: true", Vault)
	case Vault:
		n.Vault.Check(faults)
	default:
		check(false, "secret_store: %q: want %s or %s", n.Store, Dir, Vault)
	}
}

// Overridden tells whether the embedded store serves in production: that is to be recorded.
func (n *Named) Overridden() bool { return n.Store == Dir && n.Environment == Production }

// Opened is a store in use.
type Opened struct {
	secret.Store
	// Keys are the tenants'; nil for who has none, a data-plane node.
	Keys  secret.Keys
	close func()
}

// Close ends what the store runs. Nobody may use it any more.
func (o *Opened) Close() { o.close() }

// Open opens everything, as the control plane needs it. Vault may be away. When
// a certificate is configured it is in its files when Open returns; ctx bounds
// the wait for that.
func (n *Named) Open(ctx context.Context, log *slog.Logger) (*Opened, error) {
	if n.Store == Vault {
		c, err := n.openVault(ctx, log)
		if err != nil {
			return nil, err
		}
		return &Opened{Store: c, Keys: c, close: c.Close}, nil
	}
	d, err := secret.OpenDir(n.SecretsDir)
	if err != nil {
		return nil, err
	}
	return &Opened{Store: d, Keys: d, close: func() {}}, nil
}

// OpenTenants opens the tenants' logins alone, as a data-plane node needs
// them. With Vault it is the login's policy that keeps it to them.
func (n *Named) OpenTenants(ctx context.Context, log *slog.Logger) (*Opened, error) {
	if n.Store == Vault {
		c, err := n.openVault(ctx, log)
		if err != nil {
			return nil, err
		}
		return &Opened{Store: c, close: c.Close}, nil
	}
	d, err := secret.OpenTenants(n.SecretsDir)
	if err != nil {
		return nil, err
	}
	return &Opened{Store: d, close: func() {}}, nil
}

func (n *Named) openVault(ctx context.Context, log *slog.Logger) (*vault.Client, error) {
	c, err := vault.Open(n.Vault, log)
	if err != nil {
		return nil, err
	}
	if err := c.ObtainCertificate(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
