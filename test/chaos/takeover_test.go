package chaos

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/test/fleet"
)

// takeoverFor is how long an operation may stand still after its worker's
// death: ten seconds, and the rest for a machine that is busy.
const takeoverFor = 90 * time.Second

// TestAnotherReplicaTakesOver kills the replica that works on an operation, of
// two with the lease that a fleet has by default; the other one finishes it.
func TestAnotherReplicaTakesOver(t *testing.T) {
	var usual controlplane.Config
	usual.Defaults()
	f := fleet.Start(t, dev.Options{Shards: 1, Nodes: 1, ControlPlane: func(c *controlplane.Config) { c.LeaseFor = usual.LeaseFor }})
	f.Create(t, "acme", "s1")
	place, err := f.Admin.Placement(t.Context(), "acme")
	require.NoError(t, err)
	const other = "controlplane-2"
	url, second := startReplica(t, f, other)

	// An uncommitted change of the database has its fence wait, and with it the operation.
	holder := f.Postgres(t, "s1", "postgres")
	_, err = holder.Exec(t.Context(), "BEGIN; ALTER DATABASE "+pg.Ident(place.Database)+" CONNECTION LIMIT 99")
	require.NoError(t, err)
	op, err := f.Admin.SuspendTenant(t.Context(), "acme", client.Change{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		op, err = f.Admin.Operation(t.Context(), op.ID)
		return err == nil && op.Step == "fence" && op.Worker != ""
	}, time.Minute, 20*time.Millisecond)

	survivor := f.Info.AdminURL
	if op.Worker == other {
		require.NoError(t, second.Kill())
	} else {
		survivor = url
		require.NoError(t, f.Kill(controlPlane))
	}
	killed := time.Now()
	_, err = holder.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	admin, err := client.New(survivor, f.Info.AdminToken)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		op, err = admin.Operation(t.Context(), op.ID)
		return err == nil && op.State == "done"
	}, takeoverFor, 20*time.Millisecond, "killed %s; %+v", op.Worker, op)
	t.Logf("taken over and finished %v after the kill", time.Since(killed).Round(time.Millisecond))

	var limit int
	require.NoError(t, f.Postgres(t, "s1", "postgres").QueryRow(t.Context(), "SELECT datconnlimit FROM pg_database WHERE datname = $1", place.Database).Scan(&limit))
	require.Zero(t, limit, "the fence is up")
	require.Contains(t, page(t, survivor+"/metrics"), `freehold_operation_takeovers_total{kind="tenant-suspend"} 1`)
}

// startReplica runs a second control plane beside the fleet's own, with the same configuration.
func startReplica(t *testing.T, f *fleet.Fleet, name string) (url string, p *process.Process) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.Dir(), "config", controlPlane+".yaml"))
	require.NoError(t, err)
	var settings map[string]any
	require.NoError(t, yaml.Unmarshal(text, &settings))
	port, err := process.FreePort()
	require.NoError(t, err)
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	settings["name"], settings["listen"] = name, listen
	text, err = yaml.Marshal(settings)
	require.NoError(t, err)
	dir := t.TempDir()
	config := filepath.Join(dir, name+".yaml")
	require.NoError(t, os.WriteFile(config, text, 0o600))
	p, err = process.Command{Path: fleet.Binary(t), Args: []string{"controlplane", "--config", config}, Dir: dir,
		Log: filepath.Join(dir, "log"), DieWith: syscall.SIGKILL}.Start()
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = p.Stop(ctx, syscall.SIGTERM, syscall.SIGKILL) // it may have been killed
		if t.Failed() {
			t.Logf("--- %s\n%s", name, process.LogTail(filepath.Join(dir, "log"), 0))
		}
	})
	url = "http://" + listen
	require.Eventually(t, func() bool { return strings.Contains(page(t, url+"/readyz"), "ready") }, time.Minute, 50*time.Millisecond)
	return url, p
}

// page is what is at a URL, or "" if nobody answers, or not with it.
func page(t *testing.T, url string) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}
