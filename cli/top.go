package cli

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/sleep"
)

const topHelp = `

Rates are averages over the last five minutes or so. LOAD is seconds of executing
statements a second: 1 keeps one core busy.`

func shardTopCommand() *cobra.Command {
	t := top{orders: api.ShardUsageOrders}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what shards carry, the busiest first",
		Long: "Show what shards carry, the busiest first." + topHelp + `
ACTIVE sessions were in the middle of a statement at the last look; P95 is what
95 of 100 requests of the shard's tenants took at most, in the last minute.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runTop(cmd, t, func(c *client.Client) iter.Seq2[api.ShardUsage, error] {
				return c.TopShards(cmd.Context(), t.sort)
			}, shardTopColumns)
		},
	}
	t.flags(cmd)
	return cmd
}

func tenantTopCommand() *cobra.Command {
	t := top{orders: api.TenantUsageOrders}
	var shard string
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what tenants use, the busiest first",
		Long: "Show what tenants use, the busiest first." + topHelp + `
DAY is the same over a day; placement goes by the more of both. BUSY are hours
(UTC) in which the tenant is better not moved.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runTop(cmd, t, func(c *client.Client) iter.Seq2[api.TenantUsage, error] {
				return c.TopTenants(cmd.Context(), t.sort, shard)
			}, tenantTopColumns)
		},
	}
	t.flags(cmd)
	cmd.Flags().StringVar(&shard, "shard", "", "only tenants of this shard")
	completeFlag(cmd, "shard", completeShards)
	return cmd
}

// top is what both commands take.
type top struct {
	orders []string
	sort   string
	number int
	watch  bool
	every  time.Duration
}

func (t *top) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.sort, "sort", t.orders[0], "by "+strings.Join(t.orders, ", "))
	completeFlag(cmd, "sort", cobra.FixedCompletions(t.orders, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().IntVarP(&t.number, "number", "n", 20, "how many at most; 0: all")
	cmd.Flags().BoolVar(&t.watch, "watch", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&t.every, "every", 2*time.Second, "how often, with --watch")
}

func (t *top) check(cmd *cobra.Command) error {
	wrong := func(format string, args ...any) error {
		return &usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
	}
	switch {
	case !slices.Contains(t.orders, t.sort):
		return wrong("--sort %s: want %s", t.sort, strings.Join(t.orders, ", "))
	case t.number < 0:
		return wrong("-n %d: want a number, or 0 for all", t.number)
	case t.every < 100*time.Millisecond:
		return wrong("--every %s: want 100ms at least", t.every)
	}
	return nil
}

// clearScreen homes the cursor and clears what is below it.
const clearScreen = "\x1b[H\x1b[2J"

// runTop prints the head of a list once, or again and again.
func runTop[T any](cmd *cobra.Command, t top, list func(*client.Client) iter.Seq2[T, error], columns []column[T]) error {
	if err := t.check(cmd); err != nil {
		return err
	}
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	for {
		items, err := head(list(c), t.number)
		if err != nil {
			return quiet(cmd, err)
		}
		if t.watch && outputFormat(cmd) == asTable && isTerminal(cmd.OutOrStdout()) {
			fmt.Fprint(cmd.OutOrStdout(), clearScreen)
		}
		if err := printItems(cmd.OutOrStdout(), outputFormat(cmd), items, columns); err != nil {
			return err
		}
		if !t.watch || sleep.For(cmd.Context(), t.every) != nil {
			return nil
		}
	}
}

// quiet takes the error away from a watch that somebody ended.
func quiet(cmd *cobra.Command, err error) error {
	if cmd.Context().Err() != nil {
		return nil
	}
	return err
}

// head takes the first n of a list; 0: all.
func head[T any](list iter.Seq2[T, error], n int) ([]T, error) {
	items := []T{}
	for item, err := range list {
		if err != nil {
			return nil, err
		}
		if items = append(items, item); len(items) == n {
			break
		}
	}
	return items, nil
}

var shardTopColumns = []column[api.ShardUsage]{
	{"id", func(s api.ShardUsage) any { return s.Shard }},
	{"state", func(s api.ShardUsage) any { return s.State }},
	{"load", func(s api.ShardUsage) any {
		if s.Processors == 0 {
			return threeDigits(s.Now.Load)
		}
		return fmt.Sprintf("%s/%d", threeDigits(s.Now.Load), s.Processors)
	}},
	{"active", func(s api.ShardUsage) any { return s.Active }},
	{"sessions", func(s api.ShardUsage) any { return fmt.Sprintf("%d/%d", s.Sessions, s.MaxSessions) }},
	{"tenants", func(s api.ShardUsage) any { return s.Tenants }},
	{"bytes", func(s api.ShardUsage) any { return size(int64(s.Bytes)) }},
	{"wal/s", func(s api.ShardUsage) any { return size(int64(s.Now.WALBytes)) }},
	{"tx/s", func(s api.ShardUsage) any { return threeDigits(s.Now.Transactions) }},
	{"cache", func(s api.ShardUsage) any { return percent(s.Now.CacheHit) }},
	{"req/s", func(s api.ShardUsage) any { return threeDigits(s.Now.Requests) }},
	{"p95", func(s api.ShardUsage) any { return tookText(s.P95MS) }},
	{"lag", func(s api.ShardUsage) any { return size(s.LagBytes) }},
	{"measured", measuredText},
}

func measuredText(s api.ShardUsage) any {
	switch ago := time.Duration(s.AgeSeconds * float64(time.Second)).Round(time.Second); {
	case s.MeasuredAt == nil && s.Trouble == "":
		return "never"
	case s.MeasuredAt == nil:
		return "never: " + s.Trouble
	case s.Trouble != "":
		return fmt.Sprintf("%s ago: %s", ago, s.Trouble)
	default:
		return fmt.Sprintf("%s ago", ago)
	}
}

var tenantTopColumns = []column[api.TenantUsage]{
	{"id", func(t api.TenantUsage) any { return t.Tenant }},
	{"shard", func(t api.TenantUsage) any { return t.Shard }},
	{"load", func(t api.TenantUsage) any { return threeDigits(t.Now.Load) }},
	{"day", func(t api.TenantUsage) any { return threeDigits(t.Day.Load) }},
	{"sessions", func(t api.TenantUsage) any { return threeDigits(t.Now.Connections) }},
	{"bytes", func(t api.TenantUsage) any { return size(t.Bytes) }},
	{"wal/s", func(t api.TenantUsage) any { return size(int64(t.Now.WALBytes)) }},
	{"tx/s", func(t api.TenantUsage) any { return threeDigits(t.Now.Transactions) }},
	{"read/s", func(t api.TenantUsage) any { return threeDigits(t.Now.RowsRead) }},
	{"written/s", func(t api.TenantUsage) any { return threeDigits(t.Now.RowsWritten) }},
	{"cache", func(t api.TenantUsage) any { return percent(t.Now.CacheHit) }},
	{"req/s", func(t api.TenantUsage) any { return threeDigits(t.Now.Requests) }},
	{"latency", func(t api.TenantUsage) any { return tookText(t.Now.LatencyMS) }},
	{"busy", func(t api.TenantUsage) any { return hoursText(t.BusyHours) }},
}

// threeDigits says a number with three digits that count.
func threeDigits(v float64) string {
	switch {
	case v < 0.005:
		return "0"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func percent(v float64) string { return strconv.FormatFloat(100*v, 'f', 0, 64) + "%" }

// tookText is empty where there was nothing to time.
func tookText(ms float64) string {
	if ms <= 0 {
		return ""
	}
	return threeDigits(ms) + " ms"
}

// hoursText says hours of the day as ranges: "8-16,22-23".
func hoursText(hours []int) string {
	var parts []string
	for i := 0; i < len(hours); {
		last := i
		for last+1 < len(hours) && hours[last+1] == hours[last]+1 {
			last++
		}
		parts = append(parts, fmt.Sprintf("%d-%d", hours[i], hours[last]+1))
		i = last + 1
	}
	return strings.Join(parts, ",")
}
