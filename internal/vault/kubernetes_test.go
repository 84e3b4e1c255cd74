package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

// A pod logs in by its service account's token, which Vault has the cluster
// judge. The cluster is all that is not real here.
func TestKubernetesAuth(t *testing.T) {
	t.Parallel()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	token := func(account string) string {
		s, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:freehold:" + account, "exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-time.Hour).Unix(),
			"kubernetes.io": map[string]any{"namespace": "freehold", "serviceaccount": map[string]any{"name": account, "uid": "uid-" + account}},
		}).SignedString(signer)
		require.NoError(t, err)
		return s
	}
	node, other := token("freehold-dataplane"), token("something-else")
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review map[string]any
		_ = json.NewDecoder(r.Body).Decode(&review)
		spec, _ := review["spec"].(map[string]any)
		account := map[any]string{node: "freehold-dataplane", other: "something-else"}[spec["token"]]
		review["status"] = map[string]any{"authenticated": account != "",
			"user": map[string]any{"username": "system:serviceaccount:freehold:" + account, "uid": "uid-" + account}}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}))
	defer cluster.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw}), 0o600))
	server := vaulttest.Start(t, "KUBERNETES_HOST="+cluster.URL, "KUBERNETES_CA_FILE="+ca)
	_, err = open(t, server.Config("controlplane")).Put(t.Context(), path, secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)

	cfg := vault.Config{Address: server.URL, Auth: vault.Kubernetes, Role: "freehold-dataplane", ServiceAccountFile: filepath.Join(t.TempDir(), "token"), Timeout: 10 * time.Second}
	require.NoError(t, os.WriteFile(cfg.ServiceAccountFile, []byte(other), 0o600))
	pod := open(t, cfg)
	_, _, err = pod.Get(t.Context(), path)
	require.ErrorIs(t, err, secret.ErrDenied, "another account's token")
	require.NoError(t, os.WriteFile(cfg.ServiceAccountFile, []byte(node), 0o600))
	reads(t, pod, "with the right token, read anew")
	_, _, err = pod.Get(t.Context(), secret.ShardAdmin("s1"))
	require.ErrorIs(t, err, secret.ErrDenied)
}
