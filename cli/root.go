// Package cli is the command tenant-ops: the operator's commands (over the
// admin API), the server commands, and the development fleet.
//
// Import law: cli may import everything; nothing imports cli but its main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs tenant-ops with the arguments and returns its exit status: 0 when
// all went well, 2 for a wrong command line, else 1. The first Ctrl-C or
// SIGTERM ends the command in order, the second at once.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

// Run is Main without the process around it.
func Run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errs, "Error:", err)
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		fmt.Fprintln(errs, "Hint:", hinted.Hint())
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(errs, "Run `%s --help` for how to use it.\n", usage.command)
		return 2
	}
	return 1
}

// usageError is a wrong command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// EnvDir names the environment variable with the directory of the development fleet.
const EnvDir = "TENANT_OPS_DIR"

func defaultDir() string {
	if dir := os.Getenv(EnvDir); dir != "" {
		return dir
	}
	return ".dev"
}

// fleetDir is the directory of the development fleet that the command line names.
func fleetDir(cmd *cobra.Command) string {
	dir, err := cmd.Flags().GetString("dir")
	if err != nil { // the root defines it
		panic(err)
	}
	return dir
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "tenant-ops",
		Short:         "A Postgres database for every tenant, on as many servers as it takes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().String("dir", defaultDir(), "directory of the development fleet (env "+EnvDir+")")
	root.AddGroup(
		&cobra.Group{ID: "operate", Title: "Operate:"},
		&cobra.Group{ID: "serve", Title: "Serve:"},
		&cobra.Group{ID: "develop", Title: "Develop:"},
	)
	root.AddCommand(devCommand(), controlPlaneCommand(), dataPlaneCommand(), versionCommand())
	strictArgs(root)
	return root
}

// strictArgs makes every wrong command line a usageError, and a command that
// only groups others refuse unknown ones.
func strictArgs(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	check := cmd.Args
	if check == nil && !cmd.HasSubCommands() {
		check = cobra.NoArgs
	}
	if check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		strictArgs(sub)
	}
}
