package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// oneArg wants exactly one argument, what it is called in the usage line.
func oneArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return errors.New("the " + name + " is missing")
		case 1:
			return nil
		}
		return fmt.Errorf("one %s only, not also %q", name, args[1])
	}
}
