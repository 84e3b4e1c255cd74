package schema

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestToolsThatFit(t *testing.T) {
	for _, c := range []struct {
		have           []int
		source, target int
		want           int // 0: none
	}{
		{[]int{15}, 15, 15, 15},
		{[]int{15}, 15, 18, 15}, // an upgrade with the older tools
		{[]int{15, 16, 18}, 15, 18, 18},
		{[]int{16, 15}, 15, 18, 16},
		{[]int{15, 18}, 15, 16, 15},
		{[]int{16}, 15, 15, 16},
		{[]int{18, 17}, 17, 17, 17},
		{[]int{18}, 17, 17, 18},
		{[]int{15}, 18, 18, 0}, // pg_dump refuses a newer server
		{[]int{18}, 15, 15, 0}, // pg_restore sets what the target does not know
		{[]int{18}, 15, 16, 0},
		{nil, 15, 15, 0},
	} {
		var have []versioned
		for _, m := range c.have {
			have = append(have, versioned{major: m})
		}
		got, ok := pick(have, c.source, c.target)
		require.Equal(t, c.want != 0, ok, "%+v", c)
		require.Equal(t, c.want, got.major, "%+v", c)
	}
}

func TestToolboxAsksForVersions(t *testing.T) {
	dir := t.TempDir()
	say := func(version string) string {
		bin := filepath.Join(dir, version)
		require.NoError(t, os.Mkdir(bin, 0o700))
		script := "#!/bin/sh\necho 'pg_dump (PostgreSQL) " + version + "'\n"
		require.NoError(t, os.WriteFile(filepath.Join(bin, "pg_dump"), []byte(script), 0o700)) //nolint:gosec // it is to be run
		return bin
	}
	old, new := say("15.18 (Debian 15.18-0+deb12u1)"), say("19beta1")
	box := NewToolbox(old, new)
	tools, err := box.For(context.Background(), 15, 19)
	require.NoError(t, err)
	require.Equal(t, new, tools.BinDir)
	_, err = box.For(context.Background(), 20, 20)
	require.ErrorIs(t, err, ErrNoTools)
	require.ErrorContains(t, err, "15, 19")
	require.ErrorContains(t, err, "postgresql-client-20")
	_, err = NewToolbox(say("unknown")).For(context.Background(), 15, 15)
	require.ErrorContains(t, err, "unknown")
}
