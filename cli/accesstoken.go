package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
)

// grantFlags say a role and where.
type grantFlags struct {
	role                           string
	verbs, tenants, labels, shards []string
	all                            bool
}

func (g *grantFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.role, "role", "", "viewer, operator or admin")
	f.BoolVar(&g.all, "all", false, "over everything")
	f.StringSliceVar(&g.tenants, "tenant", nil, "over this tenant; may be given more than once")
	f.StringArrayVar(&g.labels, "label", nil, "NAME=VALUE: over tenants with this label; given more than once, with all of them")
	f.StringSliceVar(&g.shards, "shard", nil, "over this shard, without the tenants on it; may be given more than once")
	f.StringSliceVar(&g.verbs, "verb", nil, "only this operationId of the API; may be given more than once")
	mustGive(cmd, "role")
	completeFlag(cmd, "role", cobra.FixedCompletions([]string{"viewer", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "tenant", completeTenants)
}

func (g *grantFlags) grant(cmd *cobra.Command) (api.Grant, error) {
	grant := api.Grant{Role: g.role, Verbs: g.verbs, All: g.all}
	labels, _, err := labelChanges(g.labels)
	if err != nil {
		return grant, &usageError{cmd.CommandPath(), fmt.Errorf("--label: %w", err)}
	}
	if len(labels) > 0 {
		grant.Labels = labels
	}
	for _, id := range g.tenants {
		grant.Tenants = append(grant.Tenants, shardmap.TenantID(id))
	}
	for _, id := range g.shards {
		grant.Shards = append(grant.Shards, shardmap.ShardID(id))
	}
	some := len(g.tenants)+len(g.labels)+len(g.shards) > 0
	if g.all == some {
		return grant, &usageError{cmd.CommandPath(), errors.New("say where: --all, or --tenant, --label, --shard")}
	}
	return grant, nil
}

// grantText says a grant in a few words.
func grantText(g api.Grant) string {
	var where []string
	if g.All {
		where = append(where, "everything")
	}
	for _, id := range g.Tenants {
		where = append(where, string(id))
	}
	if len(g.Labels) > 0 {
		where = append(where, labelText(g.Labels))
	}
	for _, id := range g.Shards {
		where = append(where, "shard "+string(id))
	}
	text := g.Role + " of " + strings.Join(where, ", ")
	if len(g.Verbs) > 0 {
		text += " (" + strings.Join(g.Verbs, ", ") + ")"
	}
	return text
}

func accessTokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "access-token", Aliases: []string{"access-tokens"}, Short: "Make and revoke tokens of machines for the admin API", GroupID: "operate"}
	cmd.AddCommand(accessTokenCreateCommand(), accessTokenListCommand(), accessTokenRevokeCommand())
	return cmd
}

var accessTokenColumns = []column[api.AccessToken]{
	{"id", func(t api.AccessToken) any { return t.ID }},
	{"name", func(t api.AccessToken) any { return t.Name }},
	{"may", func(t api.AccessToken) any { return joined(t.Grants, grantText) }},
	{"state", func(t api.AccessToken) any { return t.State }},
	{"by", func(t api.AccessToken) any { return t.CreatedBy }},
	{"expires", func(t api.AccessToken) any { return t.ExpiresAt }},
	{"last used", func(t api.AccessToken) any { return t.LastUsedAt }},
	{"from", func(t api.AccessToken) any { return t.LastUsedFrom }},
}

func accessTokenCreateCommand() *cobra.Command {
	var g grantFlags
	var ttl time.Duration
	var reason, out string
	cmd := &cobra.Command{
		Use:   "create NAME --role ROLE (--all | --tenant ID | --label NAME=VALUE | --shard ID) --ttl TIME",
		Short: "Make a machine's token and print it, this once",
		Long: `Make a token with which a machine uses the admin API. It may do nothing that you
may not. Its text is printed alone on the standard output, or written to a file
of mode 0600 that is not there yet (--out). It is kept nowhere.`,
		Example: "  tenant-ops access-token create ci --role operator --label env=staging --ttl 720h --out ci.token\n" +
			"  tenant-ops access-token create acme-audit --role viewer --tenant acme --verb listTenantAudit --ttl 2160h",
		Args: oneArg("token's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			grant, err := g.grant(cmd)
			if err != nil {
				return err
			}
			if ttl <= 0 {
				return &usageError{cmd.CommandPath(), errors.New("--ttl: how long is it valid? (a year at most)")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			file, err := keyFile(cmd, out)
			if err != nil {
				return err
			}
			t, err := c.CreateAccessToken(cmd.Context(), api.CreateAccessToken{Name: args[0], ExpiresAt: time.Now().Add(ttl).UTC().Truncate(time.Second), Grants: []api.Grant{grant}}, reason)
			if err != nil {
				file.discard()
				return err
			}
			if err := file.write(t.Text); err != nil {
				return fmt.Errorf("token %s was made, but its text could not be written (revoke it: tenant-ops access-token revoke %s): %w", t.ID, t.ID, err)
			}
			if err := printAccessToken(cmd, t, out); err != nil {
				return err
			}
			next(cmd, "access-token list", "access-token revoke "+t.ID)
			return nil
		},
	}
	g.flags(cmd)
	f := cmd.Flags()
	f.DurationVar(&ttl, "ttl", 0, "how long it is valid, like 720h; a year at most")
	f.StringVar(&out, "out", "", "write the token to this new file instead of printing it")
	f.StringVar(&reason, "reason", "", "why; it goes into the audit log")
	mustGive(cmd, "ttl")
	return cmd
}

func printAccessToken(cmd *cobra.Command, t api.NewAccessToken, out string) error {
	if out != "" {
		return printOne(cmd, t.AccessToken, accessTokenColumns)
	}
	if f := outputFormat(cmd); f == asJSON || f == asYAML {
		return printDocument(cmd.OutOrStdout(), f, t)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), t.Text)
	return err
}

func accessTokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List machines' tokens, never their texts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.AccessTokens(cmd.Context()), 0, accessTokenColumns)
		},
	}
}

func accessTokenRevokeCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke TOKEN-ID",
		Short: "Have a token, and those made with it, refused from now on, for good",
		Args:  oneArg("token's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !keyIDPattern.MatchString(args[0]) {
				return &usageError{cmd.CommandPath(), errors.New("that is not the ID of a token: want 12 hex digits, as `access-token list` shows")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			if err := confirm(cmd, yes, "Whoever uses access token "+args[0]+", or one made with it, is refused from now on.", args[0], "the token's ID"); err != nil {
				return err
			}
			t, err := c.RevokeAccessToken(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			return printOne(cmd, t, accessTokenColumns)
		},
	}
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}

// labelChanges reads NAME=VALUE (set) and NAME- (taken away).
func labelChanges(args []string) (to map[string]string, away []string, err error) {
	to = map[string]string{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		_, twice := to[name]
		switch {
		case twice || slices.Contains(away, strings.TrimSuffix(a, "-")):
			return nil, nil, fmt.Errorf("%q: the label is given twice", a)
		case ok && name != "" && value != "":
			to[name] = value
		case !ok && len(a) > 1 && strings.HasSuffix(a, "-"):
			away = append(away, strings.TrimSuffix(a, "-"))
		default:
			return nil, nil, fmt.Errorf("%q: want NAME=VALUE, or NAME- to take it away", a)
		}
	}
	return to, away, nil
}

func tenantLabelCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "label ID NAME=VALUE… | NAME-…",
		Short: "Give a tenant labels, or take some away; rights may go by them",
		Long: `Give a tenant labels, or take some away (NAME-). What is not said stays. Lists can
be narrowed to labels, and rights over tenants may go by them: who changes them
needs his right over the tenant as it is and as it will be.`,
		Example:           "  tenant-ops tenant label acme env=prod team=payments\n  tenant-ops tenant label acme team-",
		ValidArgsFunction: completeTenants,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("want a tenant's ID, and labels")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			to, away, err := labelChanges(args[1:])
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			now, err := c.Tenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			labels := maps.Clone(now.Labels)
			if labels == nil {
				labels = map[string]string{}
			}
			maps.Copy(labels, to)
			for _, name := range away {
				delete(labels, name)
			}
			t, err := c.SetLabels(cmd.Context(), args[0], labels, ch.Change)
			if err != nil {
				return err
			}
			return printOne(cmd, t, tenantDetails)
		},
	}
	ch.flags(cmd)
	return cmd
}
