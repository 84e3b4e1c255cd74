package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/vault"
)

// A Vault whose certificates are due again when they are issued, for its clock is
// behind, is not asked for one after the other.
func TestCertificateThatIsDueAtOnce(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	issued := make(chan time.Time, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{"auth": map[string]any{"client_token": "t", "lease_duration": 3600}}
		if strings.Contains(r.URL.Path, "/sign/") {
			var in struct{ CSR string }
			_ = json.NewDecoder(r.Body).Decode(&in)
			block, _ := pem.Decode([]byte(in.CSR))
			csr, _ := x509.ParseCertificateRequest(block.Bytes)
			leaf := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: csr.DNSNames,
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Minute)}
			der, _ := x509.CreateCertificate(rand.Reader, leaf, root, csr.PublicKey, key)
			text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
			answer = map[string]any{"data": map[string]any{"certificate": text, "issuing_ca": text}}
			issued <- time.Now()
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	id := filepath.Join(dir, "id")
	require.NoError(t, os.WriteFile(id, []byte("id"), 0o600))
	c := open(t, vault.Config{Address: server.URL, RoleIDFile: id, SecretIDFile: id, Timeout: patience,
		Certificate: vault.Certificate{Role: "node", Names: []string{"node.freehold.test"}, Dir: dir}})
	require.NoError(t, c.ObtainCertificate(t.Context()))
	<-issued
	first, third := <-issued, time.Time{}
	for range 2 {
		third = <-issued
	}
	require.Greater(t, third.Sub(first), time.Second)
}
