package pg_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/internal/secret"
)

// issued is a verified channel's files, of an authority of their own.
func issued(t *testing.T, role string) pg.TLS {
	t.Helper()
	a, err := pki.Open(t.TempDir())
	require.NoError(t, err)
	p, err := a.Client(role)
	require.NoError(t, err)
	return pg.TLS{Mode: pg.TLSVerifyFull, CAFile: p.Root, CertFile: p.Certificate, KeyFile: p.Key}
}

func TestTLSContradictions(t *testing.T) {
	t.Parallel()
	for _, good := range []pg.TLS{{}, {Mode: "disable"}, {Mode: "require"}, {Mode: "require", CertFile: "c", KeyFile: "k"},
		{Mode: "verify-full", CAFile: "a"}, {Mode: "verify-full", CAFile: "a", CertFile: "c", KeyFile: "k"}} {
		require.NoError(t, good.Validate(), "%+v", good)
		require.Equal(t, good.Mode != "" && good.Mode != "disable", good.On())
	}
	for _, bad := range []pg.TLS{{Mode: "prefer"}, {Mode: "verify-ca", CAFile: "a"}, {Mode: "verify-full"}, {Mode: "require", CAFile: "a"},
		{CAFile: "a"}, {Mode: "disable", KeyFile: "k"}, {Mode: "require", CertFile: "c"}, {Mode: "require", KeyFile: "k"}} {
		require.Error(t, bad.Validate(), "%+v", bad)
		_, err := bad.Open(slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "database_tls")
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	good := issued(t, "a")
	_, err := good.Open(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	gone, swapped, empty, open := good, good, good, good
	gone.CAFile += ".gone"
	swapped.CertFile, swapped.KeyFile = good.KeyFile, good.CertFile
	empty.CAFile = good.KeyFile
	text, err := os.ReadFile(good.KeyFile)
	require.NoError(t, err)
	open.KeyFile = filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(open.KeyFile, text, 0o600))
	require.NoError(t, os.Chmod(open.KeyFile, 0o604)) //nolint:gosec // what is refused
	for _, bad := range []pg.TLS{gone, swapped, empty, open} {
		_, err := bad.Open(slog.New(slog.DiscardHandler))
		require.Error(t, err)
		require.NotContains(t, err.Error(), string(text))
	}
	require.ErrorContains(t, err2(open.Open(slog.New(slog.DiscardHandler))), "chmod")
}

func err2[T any](_ T, err error) error { return err }

// A renewed certificate is what the next connection shows; one that can't be
// used is told of once and changes nothing.
func TestRenewedFilesAreUsed(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	files, next := issued(t, "before"), issued(t, "after")
	c, err := files.Open(slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	shows := func() string {
		cfg, err := c.Config("db.example", 5432, "d", secret.Login{User: "u", Password: "p"})
		require.NoError(t, err)
		require.Equal(t, "db.example", cfg.TLSConfig.ServerName)
		require.False(t, cfg.TLSConfig.InsecureSkipVerify)
		require.Empty(t, cfg.Fallbacks)
		return cfg.TLSConfig.Certificates[0].Leaf.Subject.CommonName
	}
	require.Equal(t, "before", shows())
	copyOver := func(from, to string, at time.Duration) {
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, text, 0o600))
		when := time.Now().Add(at)
		require.NoError(t, os.Chtimes(to, when, when)) // however coarse the file system's clock is
	}
	copyOver(next.CertFile, files.CertFile, time.Minute)
	require.Equal(t, "before", shows(), "half of a change")
	require.Contains(t, log.String(), "the old ones stay")
	log.Reset()
	require.Equal(t, "before", shows())
	require.Empty(t, log.String(), "said once")
	copyOver(next.KeyFile, files.KeyFile, 2*time.Minute)
	require.Equal(t, "after", shows())
}

func TestSocketsAndPlainTextHaveNoTLS(t *testing.T) {
	t.Parallel()
	secured, err := issued(t, "a").Open(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	plain, err := pg.TLS{}.Open(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for host, c := range map[string]*pg.Channel{"/run/postgresql": secured, "@abstract": secured, "db.example": plain, "other.example": nil} {
		cfg, err := c.Config(host, 1, "d", secret.Login{})
		require.NoError(t, err)
		require.Nil(t, cfg.TLSConfig, host)
	}
}

func TestWhatLibpqIsTold(t *testing.T) {
	t.Parallel()
	files := issued(t, "a")
	c, err := files.Open(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Subset(t, c.Env(), []string{"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + files.CAFile, "PGSSLCERT=" + files.CertFile, "PGSSLKEY=" + files.KeyFile})
	_, err = c.Conninfo("")
	require.ErrorIs(t, err, pg.ErrNoServerFiles)
	info, err := c.Conninfo("/etc/freehold/tls")
	require.NoError(t, err)
	require.Subset(t, info, [][2]string{{"sslmode", "verify-full"}, {"sslrootcert", "/etc/freehold/tls/ca.crt"},
		{"sslcert", "/etc/freehold/tls/tls.crt"}, {"sslkey", "/etc/freehold/tls/tls.key"}})

	lax, err := pg.TLS{Mode: pg.TLSRequire}.Open(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Subset(t, lax.Env(), []string{"PGSSLMODE=require", "PGSSLROOTCERT=/nonexistent", "PGSSLCERT=/nonexistent"})
	info, err = lax.Conninfo("")
	require.NoError(t, err)
	require.Contains(t, info, [2]string{"sslmode", "require"})

	var none *pg.Channel
	require.Equal(t, []string{"PGSSLMODE=disable"}, none.Env())
	info, err = none.Conninfo("")
	require.NoError(t, err)
	require.Equal(t, [][2]string{{"sslmode", "disable"}}, info)
}

func TestExposed(t *testing.T) {
	files := issued(t, "a")
	t.Setenv("PGSSLMODE", "")
	for dsn, exposed := range map[string]string{
		"postgres://u:hunter2@127.0.0.1/d":                                                  "",
		"postgres://u:hunter2@[::1]/d":                                                      "",
		"host=/run/postgresql user=u password=hunter2":                                      "",
		"postgres://u:hunter2@localhost/d?sslmode=disable":                                  "",
		"postgres://u:hunter2@db.example/d?sslmode=verify-full&sslrootcert=" + files.CAFile: "",
		"postgres://u:hunter2@db.example/d":                                                 "db.example",
		"postgres://u:hunter2@db.example/d?sslmode=disable":                                 "in plain text",
		"postgres://u:hunter2@127.0.0.1,10.0.0.9/d?sslmode=disable":                         "10.0.0.9",
		"postgres://u:hunter2@db.example/d?sslmode=prefer":                                  "db.example",
		"postgres://u:hunter2@db.example/d?sslmode=require":                                 "pose as",
		"postgres://u:hunter2@db.example/d?sslmode=verify-ca&sslrootcert=" + files.CAFile:   "pose as",
	} {
		how, err := pg.Exposed(dsn)
		require.NoError(t, err, dsn)
		require.NotContains(t, how, "hunter2")
		if exposed == "" {
			require.Empty(t, how, dsn)
		} else {
			require.Contains(t, how, exposed, dsn)
		}
	}
	_, err := pg.Exposed("postgres://u:hunter2@db.example/d?sslmode=nonsense")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

// A pool shows what the files of its connection string are, not what they were.
func TestPoolUsesRenewedFiles(t *testing.T) {
	t.Parallel()
	files, next := issued(t, "before"), issued(t, "after")
	cfg, err := pg.PoolConfig("postgres://u:p@db.example/d?sslmode=verify-full&sslrootcert=" + files.CAFile + "&sslcert=" + files.CertFile + "&sslkey=" + files.KeyFile)
	require.NoError(t, err)
	shows := func() string {
		c := cfg.ConnConfig.Copy()
		require.NoError(t, cfg.BeforeConnect(t.Context(), c))
		return c.TLSConfig.Certificates[0].Leaf.Subject.CommonName
	}
	require.Equal(t, "before", shows())
	for from, to := range map[string]string{next.CertFile: files.CertFile, next.KeyFile: files.KeyFile} {
		require.NoError(t, os.Rename(from, to))
	}
	require.Equal(t, "after", shows())
	require.NoError(t, os.Remove(files.CertFile))
	require.Equal(t, "before", shows(), "what was there when the pool was made, for want of better")
}
