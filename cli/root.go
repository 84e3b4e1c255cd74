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

// Main runs tenant-ops with the arguments and returns its exit status (see
// exit.go). The first Ctrl-C or SIGTERM ends the command in order, the second at once.
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
	if err := root.ExecuteContext(ctx); err != nil {
		return report(errs, err)
	}
	return exitOK
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
		Long:          "A Postgres database for every tenant, on as many servers as it takes.\n\n" + connectHelp + "\n\n" + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	output := asTable
	root.PersistentFlags().VarP(&output, "output", "o", "print as table, json, yaml or csv")
	completeFlag(root, "output", cobra.FixedCompletions([]string{"table", "json", "yaml", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	root.PersistentFlags().String("dir", defaultDir(), "directory of the development fleet (env "+EnvDir+")")
	root.PersistentFlags().String("ca", "", "PEM file with the roots of the control plane's certificate (env "+envCA+"; default the system's)")
	root.AddGroup(
		&cobra.Group{ID: "operate", Title: "Operate:"},
		&cobra.Group{ID: "serve", Title: "Serve:"},
		&cobra.Group{ID: "develop", Title: "Develop:"},
	)
	root.AddCommand(tenantCommand(), planCommand(), apikeyCommand(), roleCommand(), issuerCommand(), shardCommand(), secretCommand(), rebalanceCommand(), opCommand(), doctorCommand(), auditCommand(), policyCommand(), accessTokenCommand(), bindingCommand(), breakGlassCommand(), loginCommand(), logoutCommand(), whoamiCommand(), tokenCommand(),
		devCommand(), demoCommand(), controlPlaneCommand(), dataPlaneCommand(), natsCommand(), versionCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strictArgs(root)
	return root
}

// strictArgs makes every wrong command line a usageError: unknown flags,
// missing required ones, wrong arguments, and unknown commands of a command
// that only groups others.
func strictArgs(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	check := cmd.Args
	switch {
	case !cmd.Runnable():
		cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		check = knownCommand
	case cmd.Name() == "help":
		return // cobra's own, of any arguments
	case check == nil:
		check = cobra.NoArgs
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		if err == nil {
			err = c.ValidateRequiredFlags()
		}
		if err != nil {
			return &usageError{c.CommandPath(), err}
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		strictArgs(sub)
	}
}

func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		text += fmt.Sprintf(": did you mean %q?", like[0])
	}
	return errors.New(text)
}
