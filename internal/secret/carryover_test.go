package secret

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Of two replicas that start at once, one carries over, and the other finds it done.
func TestCarriedOverByAnother(t *testing.T) {
	t.Parallel()
	d, err := OpenDir(t.TempDir())
	require.NoError(t, err)
	old := filepath.Join(d.admin.root, "databases")
	require.NoError(t, os.Mkdir(old, 0o700))
	unlock, err := d.admin.lock(t.Context())
	require.NoError(t, err)
	late := make(chan error, 1)
	go func() { late <- d.carryOver() }()
	time.Sleep(200 * time.Millisecond) // it has seen that there is something to do, and waits for its turn
	require.NoError(t, os.RemoveAll(old))
	unlock()
	require.NoError(t, <-late)
}
