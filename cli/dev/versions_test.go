package dev_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/dev"
)

func TestAShardsOwnPostgresIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	_, err := dev.Start(t.Context(), dev.Options{Dir: fleetDir(t), PostgresBin: map[string]string{"s1": bin}})
	require.ErrorContains(t, err, "the Postgres of shard s1")
	for _, program := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, program), nil, 0o600))
	}
	_, err = dev.Start(t.Context(), dev.Options{Dir: fleetDir(t), Shards: 2, PostgresBin: map[string]string{"s3": bin}})
	require.ErrorContains(t, err, `the fleet has the shards s1, s2, not "s3"`)
}
