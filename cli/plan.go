package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
)

func planCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plan", Aliases: []string{"plans"}, Short: "Say how much tenants may use", GroupID: "operate"}
	cmd.AddCommand(planListCommand(), planSetCommand(), planDefaultCommand(), planRemoveCommand())
	return cmd
}

var planColumns = []column[api.ServicePlan]{
	{"name", func(p api.ServicePlan) any { return p.Name }},
	{"default", func(p api.ServicePlan) any { return p.Default }},
	{"tenants", func(p api.ServicePlan) any { return p.Tenants }},
	{"limits", func(p api.ServicePlan) any { return limitText(p.Limits) }},
}

// limitText lists what is bounded, as the flags of `plan set` are written.
func limitText(l api.Limits) string {
	var words []string
	add := func(name, value string) {
		if value != "0" && value != "0s" {
			words = append(words, name+"="+value)
		}
	}
	add("rate", strconv.FormatFloat(l.Rate, 'g', -1, 64))
	add("burst", strconv.Itoa(l.Burst))
	add("concurrency", strconv.Itoa(l.Concurrency))
	add("weight", strconv.Itoa(l.Weight))
	add("max-body", strconv.FormatInt(l.MaxBody, 10))
	add("max-answer", strconv.FormatInt(l.MaxAnswer, 10))
	add("max-rows", strconv.Itoa(l.MaxRows))
	add("statement", (time.Duration(l.StatementMS) * time.Millisecond).String())
	return strings.Join(words, " ")
}

// limitFlags are the limits on a command line.
type limitFlags struct {
	api.Limits
	statement time.Duration
}

func (l *limitFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Float64Var(&l.Rate, "rate", 0, "requests per second, over all nodes together")
	f.IntVar(&l.Burst, "burst", 0, "requests at once")
	f.IntVar(&l.Concurrency, "concurrency", 0, "requests under way at one node")
	f.IntVar(&l.Weight, "weight", 0, "share of a busy node against other tenants' (1 unless said)")
	f.Int64Var(&l.MaxBody, "max-body", 0, "bytes of a request's body")
	f.Int64Var(&l.MaxAnswer, "max-answer", 0, "bytes of an answer")
	f.IntVar(&l.MaxRows, "max-rows", 0, "rows of an answer")
	f.DurationVar(&l.statement, "statement", 0, "time of one statement, in whole milliseconds")
}

// over returns the limits that l's flags change of before.
func (l *limitFlags) over(cmd *cobra.Command, before api.Limits) (api.Limits, bool, error) {
	if l.statement%time.Millisecond != 0 {
		return before, false, &usageError{cmd.CommandPath(), fmt.Errorf("--statement %s: want whole milliseconds", l.statement)}
	}
	l.StatementMS = l.statement.Milliseconds()
	any := false
	set := func(flag string, do func()) {
		if cmd.Flags().Changed(flag) {
			do()
			any = true
		}
	}
	set("rate", func() { before.Rate = l.Rate })
	set("burst", func() { before.Burst = l.Burst })
	set("concurrency", func() { before.Concurrency = l.Concurrency })
	set("weight", func() { before.Weight = l.Weight })
	set("max-body", func() { before.MaxBody = l.MaxBody })
	set("max-answer", func() { before.MaxAnswer = l.MaxAnswer })
	set("max-rows", func() { before.MaxRows = l.MaxRows })
	set("statement", func() { before.StatementMS = l.StatementMS })
	return before, any, nil
}

func planListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List plans",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Plans(cmd.Context()), 0, planColumns)
		},
	}
}

func planSetCommand() *cobra.Command {
	var l limitFlags
	var ch change
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Make a plan, or give it other limits",
		Long:    "Make a plan, or give it other limits: what is not said is not limited by the\nplan. Nodes hold every tenant of the plan to it at once.",
		Example: "  tenant-ops plan set pro --rate 100 --burst 200 --concurrency 20 --statement 5s",
		Args:    oneArg("plan's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, _, err := l.over(cmd, api.Limits{})
			if err != nil {
				return err
			}
			c, err := connectFor(cmd, checkPlan, args[0])
			if err != nil {
				return err
			}
			p, err := c.SetPlan(cmd.Context(), args[0], limits, ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, p, planColumns); err != nil {
				return err
			}
			next(cmd, "tenant set TENANT --plan "+p.Name, "plan default "+p.Name)
			return nil
		},
	}
	l.flags(cmd)
	ch.flags(cmd)
	return cmd
}

func planDefaultCommand() *cobra.Command {
	var ch change
	var none bool
	cmd := &cobra.Command{
		Use:   "default [NAME]",
		Short: "Show or say which plan tenants have that name none",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if none && len(args) > 0 {
				return &usageError{cmd.CommandPath(), errors.New("--none does not go with a plan's name")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			f, err := c.FleetAccess(cmd.Context())
			if err == nil && (none || len(args) > 0) {
				plan := strings.Join(args, "")
				if !none {
					if err := checkPlan(cmd, plan); err != nil {
						return err
					}
				}
				f, err = c.PatchFleetAccess(cmd.Context(), api.PatchFleetAccess{DefaultPlan: &plan}, ch.Change)
			}
			if err != nil {
				return err
			}
			return printOne(cmd, f, []column[api.FleetAccess]{
				{"default plan", func(f api.FleetAccess) any { return orNone(f.DefaultPlan) }},
				{"version", func(f api.FleetAccess) any { return f.Version }},
			})
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "no plan")
	ch.flags(cmd)
	return cmd
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func planRemoveCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"delete"},
		Short:   "Delete a plan that nobody has",
		Args:    oneArg("plan's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkPlan, args[0])
			if err != nil {
				return err
			}
			if err := confirm(cmd, yes, "This deletes the plan "+args[0]+".", args[0], "the plan's name"); err != nil {
				return err
			}
			return c.DeletePlan(cmd.Context(), args[0], ch.Change)
		},
	}
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}

func checkPlan(cmd *cobra.Command, name string) error {
	if err := access.CheckName(name); err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	return nil
}
