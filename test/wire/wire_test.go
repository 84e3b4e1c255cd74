//go:build linux

// Package wire shows what can be read of a fleet from beside it: on the wire,
// in logs, in the list of processes, in files.
package wire

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/test/fleet"
)

func TestMain(m *testing.M) {
	os.Exit(pgtest.Run(func() int {
		if _, err := fleet.BuildBinary(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer fleet.Remove()
		return m.Run()
	}))
}

// secrets are texts that nobody beside the fleet may see, by what they are.
type secrets map[string]string

// story has a fleet do what it is for, and keeps the secrets that come up:
// a shard joins, a tenant is made, applications write and read by REST and by
// SQL, a person logs in, the tenant moves to the new shard, all logins change.
type story struct {
	*fleet.Fleet
	secrets secrets
	wire    *capture
}

func begin(t *testing.T, secure bool, wire *capture) *story {
	t.Helper()
	s := &story{Fleet: fleet.Start(t, dev.Options{Shards: 1, Nodes: 1, TLS: secure}), secrets: secrets{}, wire: wire}
	s.secrets["the admin token"] = s.Info.AdminToken
	s.listen(t)
	return s
}

// listen has what the fleet's parts say now be captured.
func (s *story) listen(t *testing.T) {
	t.Helper()
	if s.wire == nil {
		return
	}
	info := s.Fleet.Fleet.Info()
	ports := map[uint16]bool{}
	for _, at := range urls(info) {
		u, err := url.Parse(at)
		if err != nil {
			continue
		}
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
			ports[uint16(port)] = true
		}
	}
	s.wire.of(t, ports)
}

// urls says where the parts are, by name.
func urls(info dev.Info) map[string]string {
	all := map[string]string{"admin API": info.AdminURL, "NATS": info.NATSURL, "issuer": info.IssuerURL, "catalog": info.CatalogDSN,
		"data plane": info.DataplaneURLs[0]}
	for _, sh := range info.Shards {
		all["Postgres of "+string(sh.ID)], all["PgBouncer of "+string(sh.ID)] = sh.PostgresDSN, sh.PgbouncerDSN
	}
	return all
}

func canary(what string) string { return "canary-" + what + "-" + rand.Text() }

func (s *story) play(t *testing.T) {
	t.Helper()
	to, err := s.AddShard(t.Context())
	require.NoError(t, err)
	s.listen(t)
	s.know(t)
	s.Create(t, "acme", "s1")
	token := s.SQLToken(t, "acme", "editor")
	s.secrets["an application's token"] = token
	s.secrets["a row"] = canary("row")
	s.secrets["a value of SQL"] = canary("sql")
	ans := s.Do(t, http.MethodPost, "/rest/v1/accounts", token, map[string]any{"owner_tag": s.secrets["a row"], "balance": 1})
	require.Equal(t, http.StatusCreated, ans.Status, "%s", ans.Body)
	ans = s.Do(t, http.MethodGet, "/rest/v1/accounts?select=owner_tag", token, nil)
	require.Contains(t, string(ans.Body), s.secrets["a row"])
	dsn := "postgresql://api:" + token + "@localhost/acme"
	ans = s.Do(t, http.MethodPost, "/sql", "", map[string]any{"query": "SELECT $1::text AS said", "params": []string{s.secrets["a value of SQL"]}},
		func(r *http.Request) { r.Header.Set("Neon-Connection-String", dsn) })
	require.Equal(t, http.StatusOK, ans.Status, "%s", ans.Body)
	key, err := s.Admin.CreateKey(t.Context(), "acme", api.CreateKey{Role: "viewer"}, "test")
	require.NoError(t, err)
	s.secrets["an API key"] = key.Text
	require.Eventually(t, func() bool {
		return s.Do(t, http.MethodGet, "/rest/v1/accounts", key.Text, nil).Status == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	person, err := s.Admin.GrantAccess(t.Context(), "acme", api.GrantAccess{As: "ro"}, "test")
	require.NoError(t, err)
	s.secrets["a person's password"] = person.Password

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Info.IssuerURL+"/.well-known/jwks.json", nil) // as nodes do
	require.NoError(t, err)
	resp, err := s.HTTP.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	s.know(t)
	s.Wait(t, s.Move(t, "acme", string(to)).ID, 3*time.Minute)
	op, err := s.Admin.RotateSecrets(t.Context(), client.Rotation{Tenant: "acme"}, client.Change{})
	require.NoError(t, err)
	s.Wait(t, op.ID, 3*time.Minute)
	s.know(t)
	ans = s.Do(t, http.MethodGet, "/rest/v1/accounts?select=owner_tag", token, nil)
	require.Contains(t, string(ans.Body), s.secrets["a row"])
}

// know reads every login of the fleet's store; those of before are kept, too.
func (s *story) know(t *testing.T) {
	t.Helper()
	dir := filepath.Join(s.Dir(), "secrets")
	store, err := secret.OpenDir(dir)
	require.NoError(t, err)
	found := 0
	for _, root := range []string{dir, secret.TenantsDir(dir)} {
		require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			name, sealed := strings.CutSuffix(path, ".sealed")
			if rel, err := filepath.Rel(root, name); err == nil && sealed {
				if l, _, err := store.Get(t.Context(), filepath.ToSlash(rel)); err == nil && l.Password != "" { // others are keys
					found++
					s.secrets[fmt.Sprintf("the password of %s, generation %d, in %s", l.User, l.Generation, rel)] = l.Password
				}
			}
			return nil
		}))
	}
	require.Greater(t, found, 10, "logins are kept elsewhere than they were")
}

// readable says which secrets are in a text.
func (s secrets) readable(text []byte) (names []string) {
	for name, value := range s {
		if len(value) < 12 {
			continue // it would be found anywhere
		}
		if bytes.Contains(text, []byte(value)) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// heard is what was said from or to a part.
func heard(flows map[flow][]byte, address string) (all []byte) {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	for f, said := range flows {
		if p := u.Port(); strconv.Itoa(int(f.from)) == p || strconv.Itoa(int(f.to)) == p {
			all = append(all, said...)
		}
	}
	return all
}

// A whole fleet with TLS is listened to while it works, and looked at: nothing
// that is secret can be read on the wire, in a log, in the list of processes, or
// in a file that others may read.
func TestAFleetWithTLSTellsNothing(t *testing.T) {
	t.Parallel()
	wire := ears(t)
	s := begin(t, true, wire)
	w := watch()
	s.play(t)
	w.stop()
	var flows map[flow][]byte
	if wire != nil {
		flows = wire.stop(t)
	}

	t.Run("wire", func(t *testing.T) {
		if wire == nil {
			t.Skip(deaf)
		}
		for name, at := range urls(s.Fleet.Fleet.Info()) {
			require.Greater(t, len(heard(flows, at)), 500, "%s was not heard at all", name)
		}
		for f, said := range flows {
			require.Empty(t, s.secrets.readable(said), "from port %d to port %d; parts: %v", f.from, f.to, urls(s.Fleet.Fleet.Info()))
		}
	})
	t.Run("logs", func(t *testing.T) {
		logs, err := filepath.Glob(filepath.Join(s.Dir(), "log", "*.log"))
		require.NoError(t, err)
		require.Greater(t, len(logs), 7)
		for _, file := range logs {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Empty(t, s.secrets.readable(text), file)
			require.NotContains(t, string(text), "PRIVATE KEY", file)
		}
		for _, part := range []string{"postgres-s1", "bouncer-s1", "controlplane", "dataplane-1"} {
			require.FileExists(t, dev.LogFile(s.Dir(), part))
		}
	})
	t.Run("processes", func(t *testing.T) {
		var programs []string
		for command := range w.commands {
			require.Empty(t, s.secrets.readable([]byte(command)), "%q", command)
			program, _, _ := strings.Cut(command, "\x00")
			programs = append(programs, filepath.Base(program))
		}
		require.Contains(t, programs, "tenant-ops")
		require.Contains(t, programs, "pgbouncer")
		for of, environ := range w.environs {
			require.Empty(t, s.secrets.readable([]byte(environ)), "the environment of %s", of)
		}
	})
	t.Run("files", func(t *testing.T) {
		read := 0
		for _, root := range roots(t, s.Dir()) {
			require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
				if err != nil {
					return nil //nolint:nilerr // gone meanwhile
				}
				st, err := e.Info()
				if err != nil || !st.Mode().IsRegular() {
					return nil //nolint:nilerr // as above
				}
				read++
				if st.Mode().Perm()&0o077 == 0 {
					return nil
				}
				text, err := os.ReadFile(path)
				if err == nil {
					require.Empty(t, s.secrets.readable(text), "%s has mode %o", path, st.Mode().Perm())
				}
				return nil
			}))
		}
		require.Greater(t, read, 100)
		for _, private := range []string{"dev.json", "pki/ca.pem", "pki/controlplane.key", "keys/controlplane.nk", "config/controlplane.yaml", "config/dataplane-1.yaml"} {
			st, err := os.Stat(filepath.Join(s.Dir(), private))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), st.Mode().Perm(), private)
		}
	})
}

// roots are the fleet's directory and those in which its servers are, if they could not be in it.
func roots(t *testing.T, dir string) []string {
	t.Helper()
	all := []string{dir}
	records, err := filepath.Glob(filepath.Join(dir, "server", "*", "location"))
	require.NoError(t, err)
	for _, record := range records {
		text, err := os.ReadFile(record)
		require.NoError(t, err)
		all = append(all, strings.TrimSpace(string(text)))
	}
	return all
}

// The control: without TLS the same ears hear it all.
func TestAFleetWithoutTLSIsHeard(t *testing.T) {
	t.Parallel()
	if os.Getenv(pgtest.EnvTLS) != "" {
		t.Skip("every fleet has TLS")
	}
	wire := listen(t)
	s := begin(t, false, wire)
	s.play(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	admin, _, err := s.store(t).Get(ctx, "dev/shards/s2/admin")
	require.NoError(t, err)
	s.secrets["the password of a shard's administrator"] = admin.Password
	info := s.Fleet.Fleet.Info()
	flows := wire.stop(t)
	for part, hears := range map[string][]string{
		info.AdminURL:               {"the admin token", "an API key", "a person's password", "the password of a shard's administrator"},
		info.DataplaneURLs[0]:       {"an application's token", "an API key", "a row", "a value of SQL"},
		info.Shards[0].PgbouncerDSN: {"a row", "a value of SQL"},
		info.Shards[1].PostgresDSN:  {"a row"}, // on its way to the new place
	} {
		at := s.secrets.readable(heard(flows, part))
		for _, what := range hears {
			require.Contains(t, at, what)
		}
	}
}

func (s *story) store(t *testing.T) *secret.Dir {
	t.Helper()
	store, err := secret.OpenDir(filepath.Join(s.Dir(), "secrets"))
	require.NoError(t, err)
	return store
}
