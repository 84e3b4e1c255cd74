package cli

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// What nobody asked for is not said to the control plane, which may be an older one.
func TestPaceThatIsNotGivenIsNotSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   []string
		said   string
		refuse bool
	}{
		{args: nil, said: ""},
		{args: []string{"--pace", "considerate"}, said: "considerate"},
		{args: []string{"--pace", "full"}, said: "full"},
		{args: []string{"--pace", ""}, refuse: true},
		{args: []string{"--pace", "fast"}, refuse: true},
	} {
		var pace string
		cmd := &cobra.Command{}
		paceFlag(cmd, &pace)
		require.NoError(t, cmd.ParseFlags(c.args))
		err := checkPace(cmd, &pace)
		if c.refuse {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.said, pace)
	}
}
