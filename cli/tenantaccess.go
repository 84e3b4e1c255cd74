package cli

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

var accessColumns = []column[api.TenantAccess]{
	{"tenant", func(a api.TenantAccess) any { return a.Tenant }},
	{"version", func(a api.TenantAccess) any { return a.Version }},
	{"plan", func(a api.TenantAccess) any {
		if a.Plan == "" && a.EffectivePlan != "" {
			return a.EffectivePlan + " (the default)"
		}
		return orNone(a.Plan)
	}},
	{"limits", func(a api.TenantAccess) any { return limitText(a.EffectiveLimits) }},
	{"of its own", func(a api.TenantAccess) any { return limitText(a.Limits) }},
	{"attributes", func(a api.TenantAccess) any { return labelText(a.Attributes) }},
	{"schemas", func(a api.TenantAccess) any { return strings.Join(a.Schemas, ", ") }},
	{"roles", func(a api.TenantAccess) any { return strings.Join(a.Roles, ", ") }},
	{"issuers", func(a api.TenantAccess) any {
		return joined(a.Issuers, func(i api.Issuer) string { return i.URL })
	}},
	{"policies", func(a api.TenantAccess) any {
		return joined(a.Policies, func(p api.Policy) string { return p.Name })
	}},
	{"API keys", func(a api.TenantAccess) any { return a.Keys }},
	{"revoked tokens", func(a api.TenantAccess) any { return a.RevokedTokens }},
	{"tokens since", func(a api.TenantAccess) any { return a.NotBefore }},
}

func joined[T any](list []T, name func(T) string) string {
	words := make([]string, len(list))
	for i, item := range list {
		words[i] = name(item)
	}
	return strings.Join(words, ", ")
}

func tenantAccessCommand() *cobra.Command {
	return aboutTenant("access ID", "Show a tenant's plan, limits, roles, issuers and policies", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		a, err := c.TenantAccess(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		return printOne(cmd, a, accessColumns)
	})
}

func tenantSetCommand() *cobra.Command {
	var l limitFlags
	var ch change
	var plan string
	var attributes, schemas []string
	cmd := &cobra.Command{
		Use:   "set ID [--plan NAME] [limits] [--attribute NAME=VALUE] [--schema NAME]",
		Short: "Give a tenant a plan, limits, attributes or exposed schemas of its own",
		Long: `Give a tenant a plan, limits, attributes or exposed schemas of its own. What is
not said stays. A limit of 0 leaves it to the plan, --plan "" is the fleet's
default, --attribute NAME= takes one away, --schema "" leaves the schemas to the nodes.`,
		Example:           "  tenant-ops tenant set acme --plan pro --attribute tier=gold\n  tenant-ops tenant set acme --rate 500 --burst 1000",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range attributes {
				if name, _, ok := strings.Cut(a, "="); !ok || name == "" {
					return &usageError{cmd.CommandPath(), fmt.Errorf("--attribute %q: want NAME=VALUE", a)}
				}
			}
			return editTenant(cmd, args[0], ch, func(now api.TenantAccess) (api.PatchTenantAccess, error) {
				var in api.PatchTenantAccess
				limits, any, err := l.over(cmd, now.Limits)
				if err != nil {
					return in, err
				}
				if any {
					in.Limits = &limits
				}
				if cmd.Flags().Changed("plan") {
					in.Plan = &plan
				}
				if len(attributes) > 0 {
					in.Attributes = changedAttributes(now.Attributes, attributes)
				}
				if cmd.Flags().Changed("schema") {
					list := append([]string{}, schemas...)
					if len(list) == 1 && list[0] == "" {
						list = []string{}
					}
					in.Schemas = &list
				}
				if in == (api.PatchTenantAccess{}) {
					return in, &usageError{cmd.CommandPath(), errors.New("nothing is said that should change")}
				}
				return in, nil
			})
		},
	}
	l.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&plan, "plan", "", "plan")
	f.StringArrayVar(&attributes, "attribute", nil, "NAME=VALUE, for policies to read; may be given more than once")
	f.StringArrayVar(&schemas, "schema", nil, "schema exposed under /rest/v1; the first is the default; may be given more than once")
	ch.flags(cmd)
	return cmd
}

func changedAttributes(now map[string]string, changes []string) *map[string]string {
	attributes := maps.Clone(now)
	if attributes == nil {
		attributes = map[string]string{}
	}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, "=")
		if attributes[name] = value; value == "" {
			delete(attributes, name)
		}
	}
	return &attributes
}

// editTries bounds how often an edit is made anew because somebody else was quicker.
const editTries = 5

// editTenant changes a tenant's access by what it is now, and prints what it
// is then. Nobody's change made meanwhile is lost.
func editTenant(cmd *cobra.Command, tenant string, ch change, edit func(now api.TenantAccess) (api.PatchTenantAccess, error), after ...string) error {
	c, err := connectFor(cmd, checkTenant, tenant)
	if err != nil {
		return err
	}
	a, err := edited(func() (api.TenantAccess, error) {
		now, err := c.TenantAccess(cmd.Context(), tenant)
		if err != nil {
			return now, err
		}
		in, err := edit(now)
		if err != nil {
			return now, err
		}
		ch.Version = &now.Version
		return c.PatchTenantAccess(cmd.Context(), tenant, in, ch.Change)
	})
	if err != nil {
		return err
	}
	if err := printOne(cmd, a, accessColumns); err != nil {
		return err
	}
	next(cmd, after...)
	return nil
}

// edited reads and changes until nobody changed it in between.
func edited[T any](try func() (T, error)) (doc T, err error) {
	for range editTries {
		if doc, err = try(); !client.IsCode(err, "changed_meanwhile") {
			break
		}
	}
	return doc, err
}
