// Package vaulttest starts real Vault servers for tests: Vault's own core and
// HTTP handler, built by `make vault` from test/vault, and set up by
// deploy/vault/setup.sh as an operator would. For tests only.
package vaulttest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/vault"
)

// upFor bounds a server's start, and its way down.
const upFor = 60 * time.Second

// Server is a Vault of a test's own, unsealed and set up. Clients reach it at
// the same address whatever happens to it.
type Server struct {
	// URL is where clients reach it. IDs is the directory with the AppRole IDs that setup.sh wrote.
	URL, IDs string

	binary, storage string
	key, root       string
	door            *door
	cmd             *exec.Cmd
}

// Binary is the file that `make vault` builds, in the user's cache; its name
// tells versions of its source apart.
func Binary() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range []string{"main.go", "go.mod"} {
		b, err := os.ReadFile(filepath.Join(repository(), "test", "vault", name))
		if err != nil {
			return "", err
		}
		_, _ = sum.Write(b)
	}
	return filepath.Join(cache, "freehold", "vault-"+hex.EncodeToString(sum.Sum(nil))[:12]), nil
}

func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Start brings up a Vault for the test. Without the binary the test is
// skipped, unless FREEHOLD_VAULT=required says that it must not be. env is for
// setup.sh, as "PKI_DOMAINS=localhost".
func Start(t testing.TB, env ...string) *Server {
	t.Helper()
	binary, err := Binary()
	require.NoError(t, err)
	_, err = os.Stat(binary)
	if _, tool := exec.LookPath("curl"); err == nil {
		err = tool // setup.sh's
	}
	if err != nil {
		if os.Getenv("FREEHOLD_VAULT") == "required" {
			t.Fatalf("no Vault: %v; run make vault, and have curl", err)
		}
		t.Skip("=== SKIPPED: no real Vault here. `make test-vault` builds one and runs this test.")
	}
	s := &Server{binary: binary, storage: t.TempDir(), IDs: t.TempDir(), door: newDoor(t)}
	s.URL = "http://" + s.door.address()
	s.Run(t)
	t.Cleanup(func() { s.Stop(t) })

	ctx, cancel := context.WithTimeout(t.Context(), upFor)
	defer cancel()
	made, err := s.client(t, "").Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	require.NoError(t, err)
	s.key, s.root = made.KeysB64[0], made.RootToken
	s.Unseal(t)
	s.Setup(t, env...)
	return s
}

// Setup runs setup.sh (again).
func (s *Server) Setup(t testing.TB, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(repository(), "deploy", "vault", "setup.sh"), s.IDs)
	cmd.Env = append(append(os.Environ(), "VAULT_ADDR="+s.URL, "VAULT_TOKEN="+s.root), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// Run starts the server, sealed, on what it has stored.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.IDs, "vault.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()                                                     //nolint:errcheck // the server has its own
	cmd := exec.Command(s.binary, "-storage", s.storage, "-follow-stdin") //nolint:gosec,noctx // ours; Stop ends it
	cmd.Stderr = log
	_, err = cmd.StdinPipe() // it ends with us, however we do
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s.cmd = cmd
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(text)
	}()
	select {
	case address := <-line:
		require.NotEmpty(t, address, "Vault ended at once")
		s.door.lead(address)
	case <-time.After(upFor):
		t.Fatal("Vault did not start")
	}
}

// Stop ends the server, if it runs.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	s.door.lead("")
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(upFor, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	kill.Stop()
	s.cmd = nil
}

// Hang has every connection, old and new, carry nothing until the function it returns is called.
func (s *Server) Hang() (goOn func()) { return s.door.hang() }

// Seal seals it: it answers, but knows nothing any more.
func (s *Server) Seal(t testing.TB) {
	t.Helper()
	require.NoError(t, s.Root(t).Sys().Seal())
}

// Unseal opens it again, and returns when it serves.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	c := s.client(t, "")
	_, err := c.Sys().Unseal(s.key)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		health, err := c.Sys().Health()
		return err == nil && health.Initialized && !health.Sealed && !health.Standby
	}, upFor, 20*time.Millisecond)
}

// Root is a client that may do everything.
func (s *Server) Root(t testing.TB) *api.Client { t.Helper(); return s.client(t, s.root) }

func (s *Server) client(t testing.TB, token string) *api.Client {
	t.Helper()
	cfg := api.DefaultConfig()
	cfg.Address, cfg.MaxRetries, cfg.Timeout = s.URL, 0, upFor
	c, err := api.NewClient(cfg)
	require.NoError(t, err)
	c.SetToken(token)
	t.Cleanup(c.CloneConfig().HttpClient.CloseIdleConnections)
	return c
}

// Config is that of a plane, controlplane or dataplane.
func (s *Server) Config(plane string) vault.Config {
	c := vault.Config{Address: s.URL, RoleIDFile: filepath.Join(s.IDs, plane+".role_id"), SecretIDFile: filepath.Join(s.IDs, plane+".secret_id"),
		Timeout: 10 * time.Second} // a busy machine is no reason for an answer to be late
	c.Defaults()
	return c
}

// NewSecretID replaces a plane's secret ID: all older ones are refused from now on.
func (s *Server) NewSecretID(t testing.TB, plane string) {
	t.Helper()
	root, role := s.Root(t), "auth/approle/role/freehold-"+plane
	old, err := root.Logical().ListWithContext(t.Context(), role+"/secret-id")
	require.NoError(t, err)
	made, err := root.Logical().WriteWithContext(t.Context(), role+"/secret-id", nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.IDs, plane+".secret_id"), []byte(fmt.Sprint(made.Data["secret_id"])), 0o600))
	for _, accessor := range old.Data["keys"].([]any) {
		_, err := root.Logical().WriteWithContext(t.Context(), role+"/secret-id-accessor/destroy", map[string]any{"secret_id_accessor": accessor})
		require.NoError(t, err)
	}
}

// RevokeTokens ends all tokens that logins by AppRole gave.
func (s *Server) RevokeTokens(t testing.TB) {
	t.Helper()
	require.NoError(t, s.Root(t).Sys().RevokePrefix("auth/approle"))
}
