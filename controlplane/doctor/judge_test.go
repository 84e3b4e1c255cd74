package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
)

func checks(f *findings) (names []string) {
	for _, one := range f.list {
		names = append(names, one.Check)
	}
	return names
}

func TestJudgeHBA(t *testing.T) {
	rule := func(kind, db, user, address, method string) hbaRule {
		return hbaRule{Type: kind, Databases: []string{db}, Users: []string{user}, Address: address, Method: method}
	}
	reject, local := rule("host", "all", "all", "all", "reject"), rule("local", "all", "all", "", "reject")
	walled := []hbaRule{rule("host", "all", "freehold_admin", "10.0.0.0", "scram-sha-256"), rule("hostssl", "samerole", "+freehold_tenant_logins", "10.0.0.0", "scram-sha-256"), reject, local}
	for name, c := range map[string]struct {
		rules []hbaRule
		tls   bool
		want  []string
	}{
		"the wall":             {walled, false, nil},
		"plain text":           {walled, true, []string{"hba-tls"}},
		"open to all":          {append([]hbaRule{rule("host", "all", "all", "10.0.0.0", "scram-sha-256")}, walled...), false, []string{"hba-wall"}},
		"open behind the wall": {append(walled[:len(walled):len(walled)], rule("host", "all", "all", "10.0.0.0", "scram-sha-256")), false, nil},
		"reject of some only":  {[]hbaRule{rule("host", "all", "all", "10.0.0.0", "reject"), rule("host", "all", "all", "all", "scram-sha-256")}, false, []string{"hba-wall"}},
		"the group anywhere":   {[]hbaRule{rule("hostssl", "all", "+freehold_tenant_logins", "all", "scram-sha-256"), reject}, true, []string{"hba-wall"}},
		"trust":                {[]hbaRule{rule("local", "all", "postgres", "", "trust")}, true, []string{"hba-method"}},
		"md5 for one":          {[]hbaRule{rule("hostssl", "postgres", "bob", "all", "md5")}, true, []string{"hba-method"}},
		"peer":                 {[]hbaRule{rule("local", "all", "all", "", "peer")}, true, nil},
		"a wrong line":         {[]hbaRule{{Error: "invalid connection type"}}, true, []string{"hba"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &findings{}
			judgeHBA(f, c.rules, c.tls)
			require.Equal(t, c.want, checks(f))
		})
	}
}

func TestJudgeBouncer(t *testing.T) {
	good := map[string]string{"auth_type": "scram-sha-256", "admin_users": "freehold_console", "stats_users": "", "auth_user": shard.BouncerRole,
		"auth_query": "SELECT usename, passwd FROM freehold.lookup($1)", "client_tls_sslmode": "verify-full", "server_tls_sslmode": "verify-full", "verbose": "0"}
	f := &findings{}
	judgeBouncer(f, good, "freehold_console", true)
	require.Empty(t, f.list)
	for name, bad := range map[string]string{"auth_type": "trust", "admin_users": "freehold_console, eve", "stats_users": "eve", "auth_user": "postgres",
		"auth_query": "SELECT usename, passwd FROM pg_shadow WHERE usename = $1", "client_tls_sslmode": "prefer", "server_tls_sslmode": "require", "verbose": "2"} {
		f, set := &findings{}, map[string]string{}
		for k, v := range good {
			set[k] = v
		}
		set[name] = bad
		judgeBouncer(f, set, "freehold_console", true)
		require.Len(t, f.list, 1, name)
		require.Equal(t, name, f.list[0].Where)
	}
}

func TestSecretsAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700)) //nolint:gosec // a directory
	file := filepath.Join(dir, "master.key")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	look := func(production bool) *findings {
		f := &findings{}
		New(nil, nil, nil, Expect{SecretsDir: dir, Production: production}).lookAtSecrets(f)
		return f
	}
	require.Empty(t, look(false).list)
	require.Equal(t, []string{"secret-store"}, checks(look(true)), "the embedded store in production")
	require.NoError(t, os.Chmod(file, 0o640)) //nolint:gosec // that is what is to be found
	f := look(false)
	require.Len(t, f.list, 1)
	require.Equal(t, file, f.list[0].Where)
}
