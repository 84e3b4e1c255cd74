package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func shardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "shard",
		Aliases: []string{"shards"},
		Short:   "Add shards, look at them, keep new tenants away",
		GroupID: "operate",
	}
	cmd.AddCommand(shardListCommand(), shardTopCommand(), shardShowCommand(), shardCapacityCommand(), shardAddCommand(), shardUpgradeCommand(), shardDrainCommand(), shardUndrainCommand(),
		shardVerbCommand("cordon", "Place no new tenants on a shard; it goes on serving those it has", (*client.Client).CordonShard, "shard uncordon %s"),
		shardVerbCommand("remove", "Take a drained, empty shard out of the fleet; nothing is done to its server", (*client.Client).RemoveShard, "shard list"),
		shardVerbCommand("uncordon", "Let a cordoned shard take new tenants again", (*client.Client).UncordonShard, "shard list"))
	return cmd
}

var shardColumns = []column[api.Shard]{
	{"id", func(s api.Shard) any { return s.ID }},
	{"state", func(s api.Shard) any { return s.State }},
	{"region", func(s api.Shard) any { return s.Region }},
	{"class", func(s api.Shard) any { return s.Class }},
	{"tenants", func(s api.Shard) any { return s.Tenants }},
	{"ready", func(s api.Shard) any { return s.Ready }},
	{"databases", func(s api.Shard) any {
		if s.MaxDatabases == 0 {
			return s.Databases
		}
		return fmt.Sprintf("%d/%d", s.Databases, s.MaxDatabases)
	}},
	{"postgres", func(s api.Shard) any { return address(s.Postgres) }},
	{"pgbouncer", func(s api.Shard) any { return address(s.Bouncer) }},
}

var shardDetails = append(append([]column[api.Shard]{}, shardColumns...),
	column[api.Shard]{"labels", func(s api.Shard) any { return labelText(s.Labels) }},
	column[api.Shard]{"routes file", func(s api.Shard) any { return s.RoutesFile }},
	column[api.Shard]{"postgres TLS dir", func(s api.Shard) any { return s.PostgresTLSDir }},
	column[api.Shard]{"version", func(s api.Shard) any { return s.Version }},
	column[api.Shard]{"added", func(s api.Shard) any { return s.CreatedAt }},
)

func address(e api.Endpoint) string { return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) }

func labelText(labels map[string]string) string {
	var pairs []string
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	sort.Strings(pairs)
	return strings.Join(pairs, ",")
}

func shardListCommand() *cobra.Command {
	var state string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List shards and what is on them",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Shards(cmd.Context(), state), limit, shardColumns)
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only active, cordoned, draining or down ones")
	limitFlag(cmd, &limit)
	return cmd
}

func shardShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show a shard",
		Args:              oneArg("shard's ID"),
		ValidArgsFunction: completeShards,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkShard, args[0])
			if err != nil {
				return err
			}
			s, err := c.Shard(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printOne(cmd, s, shardDetails)
		},
	}
}

func shardAddCommand() *cobra.Command {
	var in api.AddShard
	var postgres, bouncer, logins string
	var labels []string
	var ch change
	cmd := &cobra.Command{
		Use:   "add ID --postgres HOST:PORT --pgbouncer HOST:PORT --logins FILE",
		Short: "Check a server, prepare it and add it to the fleet",
		Long: `Check a Postgres server and the PgBouncer in front of it, prepare them, and add
them to the fleet. The same command again renews addresses and logins.

The logins are read from a file (or from standard input with --logins -), so
that no password is ever on a command line:

  {"admin": {"user": "freehold_admin", "password": "…"},
   "bouncer_admin": {"user": "freehold_bouncer_admin", "password": "…"}}

admin is a superuser of the server, bouncer_admin may use PgBouncer's console.`,
		Example: "  tenant-ops shard add s4 --postgres 10.0.0.4:5432 --pgbouncer 10.0.0.4:6432 --logins s4.json",
		Args:    oneArg("shard's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			if err := checkShard(cmd, args[0]); err != nil {
				return err
			}
			var err error
			if in.Postgres, err = endpoint("postgres", postgres); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if in.Bouncer, err = endpoint("pgbouncer", bouncer); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if in.Labels, err = parseLabels(labels); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if err := readLogins(cmd, logins, &in); err != nil {
				return err
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			s, err := c.AddShard(cmd.Context(), in, ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, s, shardDetails); err != nil {
				return err
			}
			next(cmd, "shard list", "tenant move TENANT --to "+string(s.ID))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&postgres, "postgres", "", "where Postgres listens, HOST:PORT")
	f.StringVar(&bouncer, "pgbouncer", "", "where PgBouncer listens, HOST:PORT")
	f.StringVar(&logins, "logins", "", "JSON file with both logins; -: standard input")
	f.StringVar(&in.Region, "region", "", "region")
	f.StringVar(&in.Class, "class", "", "class of machine")
	f.StringArrayVar(&labels, "label", nil, "KEY=VALUE; may be given more than once")
	f.StringVar(&in.RoutesFile, "routes-file", "", "PgBouncer's included list of entries, writable by the control plane; without it, clients connected there must reconnect after a move")
	f.StringVar(&in.PostgresTLSDir, "postgres-tls-dir", "", "directory on the machine of Postgres with ca.crt, tls.crt and tls.key, by which it connects to other shards'")
	f.IntVar(&in.MaxDatabases, "max-databases", 0, "most databases to place here; 0: no bound")
	ch.flags(cmd)
	for _, name := range []string{"postgres", "pgbouncer", "logins"} {
		mustGive(cmd, name)
	}
	return cmd
}

func endpoint(flag, s string) (api.Endpoint, error) {
	host, port, err := net.SplitHostPort(s)
	n, nerr := strconv.ParseUint(port, 10, 16)
	if err != nil || nerr != nil || n == 0 || host == "" {
		return api.Endpoint{}, fmt.Errorf("--%s %q: want HOST:PORT", flag, s)
	}
	return api.Endpoint{Host: host, Port: uint16(n)}, nil
}

func parseLabels(list []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, l := range list {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--label %q: want KEY=VALUE", l)
		}
		if _, twice := labels[k]; twice {
			return nil, fmt.Errorf("--label %q: the key is given twice", l)
		}
		labels[k] = v
	}
	return labels, nil
}

func readLogins(cmd *cobra.Command, path string, in *api.AddShard) error {
	src := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path) //nolint:gosec // the operator's own file
		if err != nil {
			return &usageError{cmd.CommandPath(), fmt.Errorf("--logins: %w", err)}
		}
		defer f.Close() //nolint:errcheck // read only
		src = f
	}
	var logins struct {
		Admin        api.Login `json:"admin"`
		BouncerAdmin api.Login `json:"bouncer_admin"`
	}
	d := json.NewDecoder(io.LimitReader(src, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&logins); err != nil {
		return &usageError{cmd.CommandPath(), fmt.Errorf("--logins %s: %w", path, err)}
	}
	in.Admin, in.BouncerAdmin = logins.Admin, logins.BouncerAdmin
	return nil
}

func shardVerbCommand(verb, short string, do func(c *client.Client, ctx context.Context, id string, ch client.Change) (api.Shard, error), after string) *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:               verb + " ID",
		Short:             short,
		Args:              oneArg("shard's ID"),
		ValidArgsFunction: completeShards,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkShard, args[0])
			if err != nil {
				return err
			}
			s, err := do(c, cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, s, shardDetails); err != nil {
				return err
			}
			next(cmd, strings.ReplaceAll(after, "%s", string(s.ID)))
			return nil
		},
	}
	ch.flags(cmd)
	return cmd
}
