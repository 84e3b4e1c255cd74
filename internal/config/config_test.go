package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/config"
)

type inner struct {
	Wait time.Duration `yaml:"wait" env:"TRIAL_INNER_WAIT"`
}

type trial struct {
	Name  string `yaml:"name" env:"TRIAL_NAME"`
	Size  int    `yaml:"size" env:"TRIAL_SIZE"`
	Inner inner  `yaml:"inner"`
}

func (c *trial) Defaults() {
	config.Default(&c.Name, "unnamed")
	config.Default(&c.Size, 3)
}

func (c *trial) Validate() error {
	var faults config.Faults
	faults.Check(c.Size > 0, "size: %d: must be positive", c.Size)
	faults.Check(c.Name != "bad", "name: %w", errors.ErrUnsupported)
	return faults.Err("trial")
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestEnvironmentOverFileOverDefaults(t *testing.T) {
	c, err := config.Load[trial]("trial", "")
	require.NoError(t, err)
	require.Equal(t, trial{Name: "unnamed", Size: 3}, c)

	t.Setenv("TRIAL_INNER_WAIT", "2s")
	c, err = config.Load[trial]("trial", file(t, "name: file\ninner: {wait: 9s}\n"))
	require.NoError(t, err)
	require.Equal(t, trial{Name: "file", Size: 3, Inner: inner{2 * time.Second}}, c)

	_, err = config.Load[trial]("trial", file(t, ""))
	require.NoError(t, err, "an empty file says nothing")
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":       {"sise: 4", "sise"},
		"of another type":   {"size: many", "many"},
		"not YAML":          {"\t", "trial: "},
		"every fault":       {"size: -1\nname: bad", "size: -1: must be positive\nname: unsupported"},
		"a key given twice": {"size: 1\nsize: 2", "size"},
	} {
		got, err := config.Load[trial]("trial", file(t, c.text))
		require.ErrorContains(t, err, c.want, name)
		require.Zero(t, got, name)
	}
	_, err := config.Load[trial]("trial", "/nonexistent")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = config.Load[trial]("trial", file(t, "name: bad"))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
