package cli

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// completeFor bounds what a press of the tab key may take, completeMost what it shows.
const (
	completeFor  = 2 * time.Second
	completeMost = 100
)

// mustGive makes a flag required.
func mustGive(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err) // a flag that was not defined
	}
}

func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // a flag that was not defined
	}
}

func completeTenants(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context, c *client.Client) []string {
		return names(c.Tenants(ctx, client.TenantFilter{Contains: prefix}), prefix, func(t api.Tenant) string { return string(t.ID) })
	})
}

func completeShards(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context, c *client.Client) []string {
		return names(c.Shards(ctx, ""), prefix, func(s api.Shard) string { return string(s.ID) })
	})
}

func completeOperations(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context, c *client.Client) []string {
		return names(c.Operations(ctx, client.OperationFilter{}), prefix, func(o api.Operation) string { return o.ID })
	})
}

// complete asks the fleet, if there is one; a shell's completion says nothing of errors.
func complete(cmd *cobra.Command, args []string, ask func(context.Context, *client.Client) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.ArgsLenAtDash() >= 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	c, err := connect(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeFor)
	defer cancel()
	return ask(ctx, c), cobra.ShellCompDirectiveNoFileComp
}

func names[T any](list iter.Seq2[T, error], prefix string, name func(T) string) []string {
	var found []string
	for item, err := range list {
		if err != nil || len(found) == completeMost {
			break
		}
		if n := name(item); strings.HasPrefix(n, prefix) {
			found = append(found, n)
		}
	}
	return found
}
