package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/freehold-db/freehold/cli"
	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// withPostgres runs the tests with pgtest's servers around them.
type withPostgres struct{ m *testing.M }

func (w withPostgres) Run() int { return pgtest.Run(w.m.Run) }

// atOnce has commands that are built with the race detector end when they have
// ended, and not a second later.
const atOnce = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	testscript.Main(withPostgres{m}, map[string]func(){
		"tenant-ops": func() { os.Exit(cli.Main(os.Args[1:])) },
		"browse":     browse,
	})
}

// Scripts run the real program. Those in testdata/alone have no fleet.
func TestScriptsWithoutAFleet(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/alone", Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": checkStatus}, Setup: func(env *testscript.Env) error {
		env.Vars = append(env.Vars, atOnce, "TMPDIR="+env.WorkDir)
		return nil
	}})
}

// Those in testdata/fleet have a control plane of their own, with shards s1 and
// s2, on a real catalog; moves there take until `go-on` is run.
func TestScriptsWithAFleet(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/fleet",
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB) //nolint:errcheck,forcetypeassert // testscript.Run's T is one
			dir := tb.TempDir()
			people, err := issuer.Start(context.Background(), dir, "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Defer(func() { _ = people.Stop(context.Background()) }) // it served a test
			if err := issuer.SetPerson(dir, issuer.Person{Name: "alice", Groups: []string{"support"}}, "correct horse"); err != nil {
				return err
			}
			f := admintest.StartWith(tb, catalogtest.Open(tb), admintest.Options{Issuers: []identity.Issuer{
				{Name: "corp", URL: people.URL(), ClientID: issuer.ClientID, Roles: map[string]authority.Role{"root": authority.Admin}}}})
			env.Values["fleet"] = f
			env.Vars = append(env.Vars, "BROWSER=browse", "XDG_CONFIG_HOME="+env.WorkDir+"/config", atOnce, "TMPDIR="+env.WorkDir, "TENANT_OPS_URL="+f.URL, "TENANT_OPS_TOKEN="+admintest.Token(adminapi.RoleAdmin))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"go-on": func(ts *testscript.TestScript, _ bool, _ []string) {
				close(ts.Value("fleet").(*admintest.Fleet).Domain.Gate)
			},
			"stop-api": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Value("fleet").(*admintest.Fleet).Stop() },
			"status":   checkStatus,
			"of":       setOperation,
			"measured": setMeasured,
		},
	})
}

// browse is a browser whose user signs in as alice at the page that it is given.
func browse() {
	address := os.Args[1]
	u, err := url.Parse(address)
	if err == nil {
		form := u.Query()
		form.Set("name", "alice")
		form.Set("password", "correct horse")
		var resp *http.Response
		if resp, err = http.PostForm(u.Scheme+"://"+u.Host+u.Path, form); err == nil {
			err = resp.Body.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// setOperation runs `of FILE`: $OP is the ID of the first operation in a list as JSON.
func setOperation(ts *testscript.TestScript, _ bool, args []string) {
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &list); err != nil || len(list) == 0 {
		ts.Fatalf("%s lists no operation: %v", args[0], err)
	}
	ts.Setenv("OP", list[0].ID)
}

// setMeasured runs `measured SHARD TENANT…`: that shard and these of its tenants
// were measured, and each does more than the next.
func setMeasured(ts *testscript.TestScript, _ bool, args []string) {
	store, ctx, shard := ts.Value("fleet").(*admintest.Fleet).Store, context.Background(), shardmap.ShardID(args[0])
	_, err := store.KeepShardUsage(ctx, shard, "w1", time.Hour)
	ts.Check(err)
	var readings []catalog.TenantReading
	for i, id := range args[1:] {
		readings = append(readings, catalog.TenantReading{Tenant: shardmap.TenantID(id), Bytes: int64(i+1) * 10e6, Busy: 1<<8 | 1<<9 | 1<<23,
			Now: catalog.Rates{Load: 1 / float64(i+1), WAL: 2e6, Requests: 100, RequestSeconds: 2}})
	}
	ts.Check(store.SaveTenantReadings(ctx, shard, "w1", readings))
	ts.Check(store.SaveShardReading(ctx, shard, "w1", catalog.ShardFigures{Rates: catalog.Rates{Load: 1.5}, Tenants: catalog.Carried{Databases: len(readings), Bytes: 3e9},
		Active: 3, Sessions: 12, MaxSessions: 100, Processors: 4, P95: 0.1}, "", time.Hour))
}

// checkStatus runs `status N program args…` and wants that exit status.
func checkStatus(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	if got := exitStatus(err); got != args[0] {
		ts.Fatalf("exit status %s (%v), want %s", got, err, args[0])
	}
}

func exitStatus(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &exit):
		return strconv.Itoa(exit.ExitCode())
	}
	return "none"
}
