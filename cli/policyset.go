package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/policy"
)

func ofTenantFlag(cmd *cobra.Command, tenant *string) {
	cmd.Flags().StringVar(tenant, "tenant", "", "the policies of this tenant (default the fleet's, which hold for every tenant)")
	completeFlag(cmd, "tenant", completeTenants)
}

func policyShowCommand() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "show [NAME]",
		Short: "List the policies of the fleet or a tenant, or show the text of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			policies, err := policiesOf(cmd, tenant)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return showPolicy(cmd, policies, args[0])
			}
			return printItems(cmd.OutOrStdout(), outputFormat(cmd), policies, []column[api.Policy]{
				{"name", func(p api.Policy) any { return p.Name }},
				{"bytes", func(p api.Policy) any { return len(p.Text) }},
				{"begins", func(p api.Policy) any { return firstLine(p.Text) }},
			})
		},
	}
	ofTenantFlag(cmd, &tenant)
	return cmd
}

// policiesOf are a tenant's, or the fleet's when none is named.
func policiesOf(cmd *cobra.Command, tenant string) ([]api.Policy, error) {
	if tenant == "" {
		c, err := connect(cmd)
		if err != nil {
			return nil, err
		}
		f, err := c.FleetAccess(cmd.Context())
		return f.Policies, err
	}
	c, err := connectFor(cmd, checkTenant, tenant)
	if err != nil {
		return nil, err
	}
	a, err := c.TenantAccess(cmd.Context(), tenant)
	return a.Policies, err
}

func showPolicy(cmd *cobra.Command, policies []api.Policy, name string) error {
	i := slices.IndexFunc(policies, func(p api.Policy) bool { return p.Name == name })
	if i < 0 {
		return noPolicy(name)
	}
	if f := outputFormat(cmd); f == asJSON || f == asYAML {
		return printDocument(cmd.OutOrStdout(), f, policies[i])
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), clean(strings.TrimRight(policies[i].Text, "\n")))
	return err
}

func noPolicy(name string) error {
	return &statusError{exitNotFound, "tenant-ops policy show lists the fleet's, with --tenant a tenant's", fmt.Errorf("there is no policy %q", name)}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if r := []rune(line); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return line
}

func policyApplyCommand() *cobra.Command {
	var tenant, name string
	var ch change
	cmd := &cobra.Command{
		Use:   "apply FILE...",
		Short: "Set Cedar policies of the fleet or a tenant, each named as its file",
		Long: `Set Cedar policies of the fleet or a tenant. Each file is one policy text (which
may hold several policies) and is named as the file is, without .cedar. One of
that name is replaced, the others stay. Try them first: tenant-ops policy test.`,
		Example: "  tenant-ops policy apply office-hours.cedar\n  tenant-ops policy apply --tenant acme --name payroll - < rules.txt",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" && len(args) > 1 {
				return &usageError{cmd.CommandPath(), errors.New("--name goes with one file only")}
			}
			var list []api.Policy
			var checked []access.Policy
			for _, file := range args {
				p, err := readPolicy(cmd.InOrStdin(), file, name)
				if err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
				list, checked = append(list, p), append(checked, access.Policy(p))
			}
			if _, err := policy.Compile(checked); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return editPolicies(cmd, tenant, ch, func(now []api.Policy) ([]api.Policy, error) {
				for _, p := range list {
					if i := slices.IndexFunc(now, func(n api.Policy) bool { return n.Name == p.Name }); i >= 0 {
						now[i] = p
					} else {
						now = append(now, p)
					}
				}
				return now, nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the policy's name (default the file's)")
	ofTenantFlag(cmd, &tenant)
	ch.flags(cmd)
	return cmd
}

func readPolicy(in io.Reader, file, name string) (p api.Policy, err error) {
	var text []byte
	if file == "-" {
		if name == "" {
			return p, errors.New("--name is needed with the standard input")
		}
		text, err = io.ReadAll(io.LimitReader(in, access.MaxPolicyBytes+1))
	} else {
		text, err = os.ReadFile(file) //nolint:gosec // the operator's own file
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(file), ".cedar")
	}
	return api.Policy{Name: name, Text: string(text)}, err
}

func policyRemoveCommand() *cobra.Command {
	var tenant string
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Take a policy of the fleet or a tenant away",
		Args:  oneArg("policy's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			whose := "the fleet's"
			if tenant != "" {
				whose = "tenant " + tenant + "'s"
			}
			what := "This takes " + whose + " policy " + args[0] + " away. What only it forbade is allowed then."
			if err := confirm(cmd, yes, what, args[0], "the policy's name"); err != nil {
				return err
			}
			return editPolicies(cmd, tenant, ch, func(now []api.Policy) ([]api.Policy, error) {
				left := slices.DeleteFunc(slices.Clone(now), func(p api.Policy) bool { return p.Name == args[0] })
				if len(left) == len(now) {
					return nil, noPolicy(args[0])
				}
				return left, nil
			})
		},
	}
	ofTenantFlag(cmd, &tenant)
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}

// editPolicies changes the policies of a tenant or, without one, of the fleet.
func editPolicies(cmd *cobra.Command, tenant string, ch change, edit func(now []api.Policy) ([]api.Policy, error)) error {
	if tenant != "" {
		return editTenant(cmd, tenant, ch, func(now api.TenantAccess) (api.PatchTenantAccess, error) {
			policies, err := edit(now.Policies)
			return api.PatchTenantAccess{Policies: &policies}, err
		}, "policy show --tenant "+tenant)
	}
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	f, err := edited(func() (api.FleetAccess, error) {
		now, err := c.FleetAccess(cmd.Context())
		if err != nil {
			return now, err
		}
		policies, err := edit(now.Policies)
		if err != nil {
			return now, err
		}
		ch.Version = &now.Version
		return c.PatchFleetAccess(cmd.Context(), api.PatchFleetAccess{Policies: &policies}, ch.Change)
	})
	if err != nil {
		return err
	}
	err = printOne(cmd, f, []column[api.FleetAccess]{
		{"version", func(f api.FleetAccess) any { return f.Version }},
		{"policies", func(f api.FleetAccess) any {
			return joined(f.Policies, func(p api.Policy) string { return p.Name })
		}},
	})
	if err == nil {
		next(cmd, "policy show")
	}
	return err
}
