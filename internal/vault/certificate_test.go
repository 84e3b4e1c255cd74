package vault_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(bytes.TrimSpace(b))
}

// certificateIn reads what a server would, and checks it as a client does.
func certificateIn(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	file := filepath.Join(dir, vault.CertificateFile)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077)
	pair, err := tls.LoadX509KeyPair(file, file)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(dir, vault.AuthorityFile)))))
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		for _, name := range []string{"node.freehold.test", "127.0.0.1"} {
			_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{use},
				CurrentTime: pair.Leaf.NotAfter.Add(-time.Second)})
			require.NoError(t, err)
		}
	}
	return pair.Leaf
}

func TestCertificateIsIssuedAndRenewed(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t, "PKI_DOMAINS=freehold.test", "PKI_ROOT=1")
	cfg := server.Config("dataplane")
	cfg.Certificate = vault.Certificate{Role: "freehold-dataplane", Mount: "pki", Names: []string{"node.freehold.test", "127.0.0.1"},
		Dir: filepath.Join(t.TempDir(), "tls"), TTL: 3 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	renewing := open(t, cfg)
	require.NoError(t, renewing.ObtainCertificate(ctx))
	first := certificateIn(t, cfg.Certificate.Dir)
	require.Eventually(t, func() bool {
		return certificateIn(t, cfg.Certificate.Dir).SerialNumber.Cmp(first.SerialNumber) != 0
	}, patience, 50*time.Millisecond, "it is renewed")

	// A long one that is there is not replaced by the next start, also while Vault is away.
	renewing.Close()
	cfg.Certificate.TTL, cfg.Certificate.Dir = time.Hour, t.TempDir()
	require.NoError(t, open(t, cfg).ObtainCertificate(ctx))
	long := certificateIn(t, cfg.Certificate.Dir)
	server.Seal(t)
	require.NoError(t, open(t, cfg).ObtainCertificate(ctx))
	require.Equal(t, long.SerialNumber, certificateIn(t, cfg.Certificate.Dir).SerialNumber)
	server.Unseal(t)

	// The role signs for its domains alone, and for its plane's login alone.
	other := cfg
	other.Certificate.Dir, other.Certificate.Names = t.TempDir(), []string{"node.elsewhere.test"}
	require.ErrorContains(t, open(t, other).ObtainCertificate(ctx), "not allowed")
	other = cfg
	other.Certificate.Dir, other.Certificate.Role = t.TempDir(), "freehold-controlplane"
	require.ErrorContains(t, open(t, other).ObtainCertificate(ctx), "permission denied")
}
