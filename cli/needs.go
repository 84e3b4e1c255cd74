package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// needsFlags are what a tenant needs of its shard, as flags.
func needsFlags(f *pflag.FlagSet, n *api.Needs) {
	f.StringVar(&n.Region, "region", "", "only shards of this region")
	f.StringVar(&n.Class, "class", "", "only shards of this class")
	f.Var(labelsFlag{&n.Require}, "require", "only shards with these labels, like disk=nvme,rack=7")
	f.Var(labelsFlag{&n.Forbid}, "forbid", "no shard with one of these labels")
	f.StringVar(&n.Apart, "apart", "", "a group of which no two tenants share a shard")
	f.BoolVar(&n.Pinned, "pinned", false, "never move it")
	f.BoolVar(&n.Exclusive, "exclusive", false, "a shard to itself")
}

// labelsFlag is a flag of labels; an empty one is none of them.
type labelsFlag struct{ to *map[string]string }

func (f labelsFlag) Set(text string) error {
	if *f.to == nil {
		*f.to = map[string]string{}
	}
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if text != "" && (!ok || k == "") {
			return errors.New("want labels like disk=nvme,rack=7")
		}
		if text != "" {
			(*f.to)[k] = v
		}
	}
	return nil
}

func (f labelsFlag) String() string {
	if f.to == nil {
		return ""
	}
	return labelText(*f.to)
}

func (labelsFlag) Type() string { return "labels" }

// changeNeeds sets what the flags that were given say.
func changeNeeds(f *pflag.FlagSet, now, given api.Needs) (changed api.Needs, declared bool) {
	for name, set := range map[string]func(){
		"region": func() { now.Region = given.Region }, "class": func() { now.Class = given.Class },
		"require": func() { now.Require = given.Require }, "forbid": func() { now.Forbid = given.Forbid },
		"apart": func() { now.Apart = given.Apart }, "pinned": func() { now.Pinned = given.Pinned },
		"exclusive": func() { now.Exclusive = given.Exclusive },
	} {
		if f.Changed(name) {
			set()
			declared = true
		}
	}
	return now, declared
}

func tenantNeedsCommand() *cobra.Command {
	var given api.Needs
	var none bool
	var ch change
	cmd := &cobra.Command{
		Use:   "needs ID",
		Short: "Show or declare what a tenant needs of its shard",
		Long: `Show what a tenant needs of its shard; with flags, declare it: what they name
changes, the rest stays. A need is taken away by an empty value, all by --none.

What no shard can meet is refused. The tenant moves with the next plan that is
carried out.`,
		Example:           "  tenant-ops tenant needs acme --region eu --apart banks\n  tenant-ops tenant needs acme --require disk=nvme --apart ''\n  tenant-ops tenant needs acme --none",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			if _, declared := changeNeeds(cmd.Flags(), api.Needs{}, given); !declared && !none {
				now, err := c.Needs(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return printOne(cmd, now, needsColumns)
			}
			applied, err := edited(func() (api.AppliedPolicy, error) {
				now, err := c.Needs(cmd.Context(), args[0])
				if err != nil {
					return api.AppliedPolicy{}, err
				}
				if none {
					now.Needs = api.Needs{}
				}
				wanted, _ := changeNeeds(cmd.Flags(), now.Needs, given)
				ch.Version = &now.Version
				return c.SetNeeds(cmd.Context(), args[0], wanted, ch.Change)
			})
			if err != nil {
				return err
			}
			if err := printApplied(cmd, applied); err != nil {
				return err
			}
			next(cmd, "tenant explain "+args[0], "rebalance plan")
			return nil
		},
	}
	needsFlags(cmd.Flags(), &given)
	cmd.Flags().BoolVar(&none, "none", false, "take all needs away that no other flag names")
	ch.flags(cmd)
	return cmd
}

var needsColumns = []column[api.TenantNeeds]{
	{"needs", func(n api.TenantNeeds) any {
		if text := needsText(n.Needs); text != "" {
			return text
		}
		return "nothing: any shard will do"
	}},
	{"version", func(n api.TenantNeeds) any { return n.Version }},
}

func needsText(n api.Needs) string {
	var parts []string
	say := func(word, value string) {
		if value != "" {
			parts = append(parts, word+" "+value)
		}
	}
	say("region", n.Region)
	say("class", n.Class)
	say("requires", labelText(n.Require))
	say("forbids", labelText(n.Forbid))
	say("apart from", n.Apart)
	if n.Pinned {
		parts = append(parts, "pinned")
	}
	if n.Exclusive {
		parts = append(parts, "a shard to itself")
	}
	return strings.Join(parts, ", ")
}

func shardCapacityCommand() *cobra.Command {
	var bytes, wal int64
	var given api.Amounts
	var ch change
	cmd := &cobra.Command{
		Use:   "capacity ID",
		Short: "Show or declare what a shard may carry",
		Long: `Show what a shard may carry; with flags, declare it: what they name changes, the
rest stays, and 0 is no bound. The policy's headroom is of it.`,
		Example:           "  tenant-ops shard capacity s1 --bytes 2TB --load 8 --connections 500",
		Args:              oneArg("shard's ID"),
		ValidArgsFunction: completeShards,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkShard, args[0])
			if err != nil {
				return err
			}
			given.Bytes, given.WAL = float64(bytes), float64(wal)
			if _, declared := changeCapacity(cmd.Flags(), api.Amounts{}, given); !declared {
				now, err := c.Capacity(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return printOne(cmd, now, capacityColumns)
			}
			applied, err := edited(func() (api.AppliedPolicy, error) {
				now, err := c.Capacity(cmd.Context(), args[0])
				if err != nil {
					return api.AppliedPolicy{}, err
				}
				wanted, _ := changeCapacity(cmd.Flags(), now.Amounts, given)
				ch.Version = &now.Version
				return c.SetCapacity(cmd.Context(), args[0], wanted, ch.Change)
			})
			if err != nil {
				return err
			}
			if err := printApplied(cmd, applied); err != nil {
				return err
			}
			next(cmd, "rebalance plan")
			return nil
		},
	}
	f := cmd.Flags()
	f.Var(sizeFlag{&bytes}, "bytes", "of databases on disk, like 2TB")
	f.Float64Var(&given.Connections, "connections", 0, "server connections in use")
	f.Float64Var(&given.Load, "load", 0, "seconds of Postgres' work a second: 1 keeps one core busy")
	f.Var(sizeFlag{&wal}, "wal", "write-ahead log a second, like 50MB")
	f.Float64Var(&given.Databases, "databases", 0, "number of tenants' databases")
	ch.flags(cmd)
	return cmd
}

func changeCapacity(f *pflag.FlagSet, now, given api.Amounts) (changed api.Amounts, declared bool) {
	for name, set := range map[string]func(){
		"bytes": func() { now.Bytes = given.Bytes }, "connections": func() { now.Connections = given.Connections },
		"load": func() { now.Load = given.Load }, "wal": func() { now.WAL = given.WAL }, "databases": func() { now.Databases = given.Databases },
	} {
		if f.Changed(name) {
			set()
			declared = true
		}
	}
	return now, declared
}

var capacityColumns = []column[api.ShardCapacity]{
	{"bytes", func(c api.ShardCapacity) any { return bound(c.Bytes, size(int64(c.Bytes))) }},
	{"connections", func(c api.ShardCapacity) any { return bound(c.Connections, fmt.Sprint(c.Connections)) }},
	{"load", func(c api.ShardCapacity) any { return bound(c.Load, fmt.Sprint(c.Load)) }},
	{"wal", func(c api.ShardCapacity) any { return bound(c.WAL, size(int64(c.WAL))+"/s") }},
	{"databases", func(c api.ShardCapacity) any { return bound(c.Databases, fmt.Sprint(c.Databases)) }},
	{"version", func(c api.ShardCapacity) any { return c.Version }},
}

// bound says a capacity, of which 0 is none.
func bound(v float64, text string) string {
	if v == 0 {
		return "no bound"
	}
	return text
}
