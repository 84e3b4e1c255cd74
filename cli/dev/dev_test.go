package dev_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli"
	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/process"
)

// asProgram, in the environment, makes this test binary be tenant-ops, so that
// the parts of a fleet can be processes without building another binary.
const asProgram = "TENANT_OPS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Setenv(asProgram, "1")
	os.Exit(m.Run())
}

// fleetDir is a directory of a fleet that is destroyed with the test.
func fleetDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(pgtest.TempDir(t), "fleet")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := dev.Destroy(ctx, dir); err != nil {
			require.ErrorIs(t, err, dev.ErrNotRunning, "nothing was ever started")
		}
	})
	return dir
}

func start(t *testing.T, opts dev.Options) *dev.Fleet {
	t.Helper()
	opts.FastUnsafe = true
	f, err := dev.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, f) })
	return f
}

func stop(t *testing.T, f *dev.Fleet) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, f.Stop(ctx))
}

func onCatalog(t *testing.T, info dev.Info, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), info.CatalogDSN)
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // a test
	var out string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&out))
	return out
}

func requireUp(t *testing.T, dir string) {
	t.Helper()
	parts, err := dev.Status(t.Context(), dir)
	require.NoError(t, err)
	for _, p := range parts {
		require.NoError(t, p.Err, p.Name)
		require.NotZero(t, p.PID, p.Name)
	}
}

func TestFleetIsResumedAndDestroyed(t *testing.T) {
	t.Parallel()
	dir := fleetDir(t)
	_, err := dev.Read(dir)
	require.ErrorIs(t, err, dev.ErrNotRunning)
	f := start(t, dev.Options{Dir: dir, Shards: 2, Nodes: 1})
	info := f.Info()
	require.Len(t, info.Shards, 2)
	require.Len(t, info.DataplaneURLs, 1)
	requireUp(t, dir)

	// dev.json is what the issue promises, and nobody else's to read.
	st, err := os.Stat(filepath.Join(dir, "dev.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	read, err := dev.Read(dir)
	require.NoError(t, err)
	require.Equal(t, info, read)

	_, err = dev.Start(t.Context(), dev.Options{Dir: dir})
	require.ErrorIs(t, err, dev.ErrRunning)
	requireUp(t, dir)

	onCatalog(t, info, "SELECT lo_create(4711)::text")
	stop(t, f)
	stop(t, f)
	_, err = dev.Read(dir)
	require.ErrorIs(t, err, dev.ErrNotRunning)
	require.ErrorIs(t, dev.Down(t.Context(), dir), dev.ErrNotRunning)

	_, err = dev.Start(t.Context(), dev.Options{Dir: dir, Shards: 1})
	require.ErrorContains(t, err, "cannot shrink")

	f = start(t, dev.Options{Dir: dir, Nodes: 2})
	require.Equal(t, info.AdminURL, f.Info().AdminURL, "addresses stay")
	require.Equal(t, info.AdminToken, f.Info().AdminToken)
	require.Equal(t, info.Shards, f.Info().Shards)
	require.Len(t, f.Info().DataplaneURLs, 2)
	require.Equal(t, "1", onCatalog(t, f.Info(), "SELECT count(*)::text FROM pg_largeobject_metadata WHERE oid = 4711"), "data stays")
	stop(t, f)

	require.NoError(t, dev.Destroy(t.Context(), dir))
	require.NoDirExists(t, dir)
	require.ErrorIs(t, dev.Destroy(t.Context(), dir), dev.ErrNotRunning)
	require.ErrorIs(t, dev.Destroy(t.Context(), t.TempDir()), dev.ErrNotRunning, "not a fleet's directory")
}

// Any part of a fleet in processes can be killed and started again where it was.
func TestPartsAreKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	dir := fleetDir(t)
	f := start(t, dev.Options{Dir: dir, Shards: 1, Nodes: 1, Processes: true, Binary: os.Args[0]})
	requireUp(t, dir)
	before := f.Info()
	for _, name := range []string{"dataplane-1", "controlplane", "nats", "bouncer-s1", "postgres-s1"} {
		ended := f.Ended(name)
		require.NoError(t, f.Kill(name))
		<-ended
		require.Zero(t, f.Info().PIDs[name])
		require.NoError(t, f.Launch(t.Context(), name), name)
		require.NotEqual(t, before.PIDs[name], f.Info().PIDs[name])
	}
	require.NoError(t, f.Halt(t.Context(), "dataplane-1"))
	require.NoError(t, f.Launch(t.Context(), "dataplane-1"))
	requireUp(t, dir)
	after := f.Info()
	before.PIDs, after.PIDs = nil, nil
	require.Equal(t, before, after, "each is where it was")
	require.ErrorIs(t, f.Kill("nonsense"), dev.ErrNoPart)

	for name, pid := range f.Info().PIDs {
		if name == "dev" || name == "issuer" {
			continue
		}
		line := process.CommandLine(pid)
		require.NotContains(t, line, f.Info().AdminToken, name)
		require.NotContains(t, line, "postgres://", name)
	}
}

func TestPartsInsideOurProcessCannotBeKilled(t *testing.T) {
	t.Parallel()
	dir := fleetDir(t)
	f := start(t, dev.Options{Dir: dir, Shards: 1, Nodes: 1})
	require.ErrorIs(t, f.Kill("controlplane"), dev.ErrInProcess)
	require.NoError(t, f.Halt(t.Context(), "dataplane-1"))
	_, err := http.Get(f.Info().DataplaneURLs[0] + "/healthz") //nolint:noctx,bodyclose // must fail
	require.Error(t, err)
	require.NoError(t, f.Launch(t.Context(), "dataplane-1"))
	requireUp(t, dir)
}

// Ports that somebody else took while the fleet was down are given up for
// others, and the control plane hears of it.
func TestPortsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	for _, processes := range []bool{false, true} {
		t.Run(fmt.Sprintf("processes=%v", processes), func(t *testing.T) {
			t.Parallel()
			dir := fleetDir(t)
			opts := dev.Options{Dir: dir, Shards: 1, Nodes: 1, Processes: processes, Binary: os.Args[0]}
			f := start(t, opts)
			before := f.Info()
			stop(t, f)
			urls := []string{before.AdminURL, before.DataplaneURLs[0], before.IssuerURL, before.NATSURL, before.CatalogDSN,
				before.Shards[0].PostgresDSN, before.Shards[0].PgbouncerDSN}
			for _, text := range urls {
				u, err := url.Parse(text)
				require.NoError(t, err)
				l, err := net.Listen("tcp", u.Host) //nolint:noctx // local
				require.NoError(t, err, text)
				defer l.Close() //nolint:errcheck // a test
			}
			f = start(t, opts)
			requireUp(t, dir)
			after := f.Info()
			require.NotEqual(t, before.AdminURL, after.AdminURL)
			admin, err := client.New(after.AdminURL, after.AdminToken)
			require.NoError(t, err)
			s1, err := admin.Shard(t.Context(), "s1")
			require.NoError(t, err)
			bouncer, err := url.Parse(after.Shards[0].PgbouncerDSN)
			require.NoError(t, err)
			require.Equal(t, bouncer.Port(), strconv.Itoa(int(s1.Bouncer.Port)))
		})
	}
}

// A fleet with TLS speaks nothing else, remembers it, and lets nobody in who has no certificate.
func TestFleetWithTLS(t *testing.T) {
	t.Parallel()
	dir := fleetDir(t)
	f := start(t, dev.Options{Dir: dir, Shards: 1, Nodes: 1, TLS: true})
	requireUp(t, dir)
	info := f.Info()
	require.True(t, info.Secure)
	own, err := info.HTTP()
	require.NoError(t, err)
	defer own.CloseIdleConnections()
	get := func(web *http.Client, url string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	}
	anonymous := info
	anonymous.CertFile, anonymous.KeyFile = "", ""
	nobody, err := anonymous.HTTP()
	require.NoError(t, err)
	defer nobody.CloseIdleConnections()
	for _, page := range []string{info.AdminURL + "/readyz", info.DataplaneURLs[0] + "/readyz", info.OpsURLs[0] + "/metrics", info.IssuerURL + "/healthz"} {
		require.NoError(t, get(own, page), page)
		require.Error(t, get(http.DefaultClient, page), "%s: the system knows nothing of its root", page)
		require.Error(t, get(own, strings.Replace(page, "https:", "http:", 1)), page)
		if strings.HasPrefix(page, info.AdminURL) {
			require.Error(t, get(nobody, page), "without a certificate")
		} else {
			require.NoError(t, get(nobody, page), page)
		}
	}
	for _, dsn := range []string{info.CatalogDSN, info.Shards[0].PostgresDSN, info.Shards[0].PgbouncerDSN} {
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		require.Equal(t, "verify-full", u.Query().Get("sslmode"))
		for _, less := range []string{"sslmode=disable", "sslmode=verify-full&sslrootcert=" + info.CAFile} { // the second shows no certificate
			u.RawQuery = less
			_, err = pgx.Connect(t.Context(), u.String())
			require.Error(t, err, less)
		}
	}
	require.NoError(t, f.Renewed())
	requireUp(t, dir)
	stop(t, f)
	_, err = dev.Start(t.Context(), dev.Options{Dir: fleetDirOf(t, false), TLS: true, FastUnsafe: true})
	require.ErrorContains(t, err, "made without TLS")
	f = start(t, dev.Options{Dir: dir}) // as before
	requireUp(t, dir)
	require.True(t, f.Info().Secure)
	require.Equal(t, info.AdminURL, f.Info().AdminURL)
}

// fleetDirOf is the directory of a fleet that was made before, by its state.
func fleetDirOf(t *testing.T, secure bool) string {
	t.Helper()
	dir := fleetDir(t)
	require.NoError(t, os.MkdirAll(dir, 0o711))
	b, err := json.Marshal(map[string]any{"shards": 1, "nodes": 1, "tls": secure})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "state.json"), b, 0o600))
	return dir
}

func TestExternalNATS(t *testing.T) {
	t.Parallel()
	ns, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), Token: "outside"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ns.Stop(context.Background())) })
	dir := fleetDir(t)
	f := start(t, dev.Options{Dir: dir, Shards: 1, Nodes: 1, ExternalNATS: ns.URL()})
	require.Equal(t, ns.URL(), f.Info().NATSURL)
	require.NotContains(t, f.Names(), "nats")
	parts, err := dev.Status(t.Context(), dir)
	require.NoError(t, err)
	for _, p := range parts {
		require.NoError(t, p.Err, p.Name)
	}
}

// A dev killed with SIGKILL leaves nothing that the next one cannot clean up.
func TestNextStartCleansUpAfterSIGKILL(t *testing.T) {
	t.Parallel()
	for _, processes := range []bool{false, true} {
		t.Run(fmt.Sprintf("processes=%v", processes), func(t *testing.T) {
			t.Parallel()
			dir := fleetDir(t)
			cmd := exec.Command(os.Args[0], "dev", "--dir", dir, "--shards=1", "--nodes=1", fmt.Sprintf("--processes=%v", processes)) //nolint:noctx // killed below
			require.NoError(t, cmd.Start())
			var info dev.Info
			require.Eventually(t, func() bool {
				var err error
				info, err = dev.Read(dir)
				return err == nil
			}, 2*time.Minute, 20*time.Millisecond)
			require.Equal(t, cmd.Process.Pid, info.PIDs["dev"])
			require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
			_ = cmd.Wait()

			_, err := dev.Read(dir)
			require.ErrorIs(t, err, dev.ErrNotRunning)
			f := start(t, dev.Options{Dir: dir, Processes: processes, Binary: os.Args[0]})
			requireUp(t, dir)
			require.Equal(t, info.Shards, f.Info().Shards)
			for name, pid := range info.PIDs {
				require.False(t, process.Alive(pid), "%s of the killed fleet is still there", name)
			}
		})
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := fleetDir(t)
	run := func(args ...string) (string, error) {
		out, err := exec.Command(os.Args[0], append(args, "--dir", dir)...).CombinedOutput() //nolint:noctx // ends by itself
		return string(out), err
	}
	out, err := run("dev", "status")
	require.Error(t, err)
	require.Contains(t, out, "no fleet is running here")

	out, err = run("dev", "--detach", "--shards", "1", "--nodes", "1")
	require.NoError(t, err, out)
	var info dev.Info
	b, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &info))
	require.Contains(t, out, info.AdminURL)

	out, err = run("dev", "--detach")
	require.Error(t, err)
	require.Contains(t, out, "already running")
	out, err = run("dev", "status")
	require.NoError(t, err, out)
	require.Contains(t, out, "postgres-s1")
	out, err = run("dev", "down")
	require.NoError(t, err, out)
	for name, pid := range info.PIDs {
		require.Eventually(t, func() bool { return !process.Alive(pid) }, time.Minute, 10*time.Millisecond, name)
	}
	out, err = run("dev", "destroy")
	require.Error(t, err)
	require.Contains(t, out, "--yes")
	out, err = run("dev", "destroy", "--yes")
	require.NoError(t, err, out)
	require.NoDirExists(t, dir)
}
