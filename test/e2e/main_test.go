// Package e2e drives a whole fleet through its public surfaces: the REST API,
// the admin API, the CLI, and the databases themselves.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/test/fleet"
)

// shared is one fleet for the tests that only add tenants of their own to it.
var shared *fleet.Fleet

func TestMain(m *testing.M) { os.Exit(pgtest.Run(func() int { return run(m) })) }

func run(m *testing.M) int {
	binary, err := fleet.BuildBinary()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer fleet.Remove()
	dir, err := pgtest.NewDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the next test binary removes it, if we don't
	f, stop, err := fleet.Up(dev.Options{Shards: 2, Nodes: 1}, binary, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = f
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the fleet:", err)
		return 1
	}
	return code
}
