package pgserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// enterable makes a directory that the servers' account can reach.
func enterable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "freehold-pgserver-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func newServer(t *testing.T, cfg Config) *Postgres {
	t.Helper()
	cfg.FastUnsafe, cfg.DieWithParent = true, true
	if cfg.Password == "" {
		cfg.Password = "it's \"secret\""
	}
	p, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Abort(context.Background())
		require.NoError(t, p.Destroy(context.Background()))
	})
	require.NoError(t, p.Init(t.Context()))
	return p
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // a test
	var out string
	require.NoError(t, conn.QueryRow(ctx, sql).Scan(&out))
	return out
}

func TestServerKeepsItsDataThroughStopAndKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(enterable(t), "pg")
	p := newServer(t, Config{Dir: dir, Settings: map[string]string{"wal_level": "logical"}})
	require.NoError(t, p.Start(t.Context()))
	require.NoError(t, p.Start(t.Context()), "starting twice")
	port := p.Port()
	require.Equal(t, "logical", query(t, p.DSN("postgres"), "SHOW wal_level"))
	query(t, p.DSN("postgres"), "SELECT lo_create(4242)::text")

	require.NoError(t, p.Stop(t.Context()))
	require.Zero(t, p.Pid())
	require.NoError(t, p.Stop(t.Context()), "stopping twice")
	require.NoError(t, p.Start(t.Context()))
	require.Equal(t, port, p.Port(), "the port stays")

	require.NoError(t, p.Kill())
	select {
	case <-p.Done():
	default:
		t.Fatal("Done is open after Kill")
	}
	require.NoError(t, p.Start(t.Context()), "postmaster.pid is stale now")
	require.Equal(t, "1", query(t, p.DSN("postgres"), "SELECT count(*)::text FROM pg_largeobject_metadata WHERE oid = 4242"))

	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid()))
	if err == nil {
		require.NotContains(t, string(cmdline), "secret")
	}
}

// What a killed parent leaves running is stopped by the next start, and the
// data is the same.
func TestStartEvictsWhatAnEarlierLifeLeft(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(enterable(t), "pg")
	first := newServer(t, Config{Dir: dir})
	require.NoError(t, first.Start(t.Context()))
	pid := first.Pid()

	second, err := New(Config{Dir: dir, Password: first.cfg.Password, FastUnsafe: true, DieWithParent: true})
	require.NoError(t, err)
	require.NoError(t, second.Init(t.Context()), "already there")
	require.NoError(t, second.Start(t.Context()))
	require.Zero(t, first.Pid())
	require.NotEqual(t, pid, second.Pid())
	require.NoError(t, second.Abort(t.Context()))
}

func TestStartSaysWhyItFails(t *testing.T) {
	t.Parallel()
	base := enterable(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test
	taken := newServer(t, Config{Dir: filepath.Join(base, "a"), Port: l.Addr().(*net.TCPAddr).Port})
	require.ErrorIs(t, taken.Start(t.Context()), ErrPortInUse)

	broken := newServer(t, Config{Dir: filepath.Join(base, "b"), Settings: map[string]string{"no_such_setting": "1"}})
	err = broken.Start(t.Context())
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	require.Zero(t, broken.Pid())

	changed, err := New(Config{Dir: filepath.Join(base, "a"), Password: "another one", FastUnsafe: true, DieWithParent: true})
	require.NoError(t, err)
	began := time.Now()
	require.ErrorContains(t, changed.Start(t.Context()), "password authentication failed")
	require.Less(t, time.Since(began), 30*time.Second, "a refusal is not waited out")
}

// Below a directory that the servers' account cannot enter, the state is kept
// elsewhere, found again, and removed with the rest.
func TestStateMovesWhereTheAccountCanReachIt(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs servers under another account")
	}
	closed, err := os.MkdirTemp("/var/tmp", "freehold-closed-") // 0700
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(closed) })
	named := filepath.Join(closed, "pg")
	p := newServer(t, Config{Dir: named})
	require.NoError(t, p.Start(t.Context()))
	require.True(t, strings.HasPrefix(p.place.dir, "/var/tmp/freehold-"), p.place.dir)
	require.FileExists(t, filepath.Join(named, locationFile))

	require.NoError(t, os.Chmod(closed, 0o711))
	again, err := New(Config{Dir: named, Password: p.cfg.Password})
	require.NoError(t, err)
	require.Equal(t, p.place.dir, again.place.dir, "found again, even though the named directory could now be used")

	moved := p.place.dir
	require.NoError(t, p.Abort(t.Context()))
	require.NoError(t, p.Destroy(t.Context()))
	require.NoDirExists(t, moved)
	require.NoDirExists(t, named)

	require.NoError(t, os.Mkdir(named, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(named, locationFile), []byte(moved+"\n"), 0o600))
	_, err = New(Config{Dir: named, Password: "x"})
	require.ErrorIs(t, err, ErrStateGone)
}

// A path longer than a unix socket's may be still works.
func TestLongDirectory(t *testing.T) {
	t.Parallel()
	p := newServer(t, Config{Dir: filepath.Join(enterable(t), strings.Repeat("long", 30))})
	require.NoError(t, p.Start(t.Context()))
	require.Less(t, len(p.SocketDir()), socketPathMax)
	require.DirExists(t, p.SocketDir())
	require.Equal(t, "1", query(t, fmt.Sprintf("host=%s port=%d user=freehold_admin password='it\\'s \"secret\"' dbname=postgres", p.SocketDir(), p.Port()), "SELECT 1::text"))
}
