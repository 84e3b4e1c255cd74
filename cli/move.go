package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func tenantMoveCommand() *cobra.Command {
	var in api.MoveTenant
	var ch change
	var pause, soak time.Duration
	cmd := &cobra.Command{
		Use:   "move ID --to SHARD",
		Short: "Move a tenant to another shard while it is served",
		Long: `Move a tenant to another shard while its clients go on reading and writing.

--max-pause is a contract: the cutover waits until the pause that is expected fits
it, and says why it waits; one that would keep clients waiting for longer all the
same is given up with nothing changed, and tried again. --dry-run walks the same steps,
changes nothing, and says what each would do or why the move would be refused.

With --cutover manual the move waits, caught up, until "op cutover" says go, and
with a time until then; clients are served meanwhile, and the target follows.

With --soak the source goes on following what is written at the target: until the
soak is over, completed or reversed, "tenant move reverse" takes the tenant back.

The copy slows down by itself while a server of either side, or a standby of
one, has trouble keeping up, and says so; --max-rate bounds it besides. While
anybody else works on one of the two servers it does one thing at a time and
rests as long as it works, which --pace full spares it. "op pace" changes both
while the copy is under way.

On a terminal the move is watched until it is over, elsewhere only with --wait.
Ctrl-C ends the watching; the move goes on.`,
		Example:           "  tenant-ops tenant move acme --to s2\n  tenant-ops tenant move acme --to s2 --dry-run\n  tenant-ops tenant move acme --to s2 --max-pause 200ms --wait\n  tenant-ops tenant move acme --to s2 --soak 30m",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTenant(cmd, args[0]); err != nil {
				return err
			}
			if err := checkShard(cmd, in.To); err != nil {
				return err
			}
			var err error
			if in.MaxPauseMS, err = checkPause(cmd, pause); err != nil {
				return err
			}
			if in.SoakSeconds, err = checkSoak(cmd, soak); err != nil {
				return err
			}
			if in.Cutover, err = checkCutover(cmd, in.Cutover); err != nil {
				return err
			}
			if err := checkPace(cmd, &in.Pace); err != nil {
				return err
			}
			if in.DryRun {
				return planMove(cmd, args[0], in)
			}
			return moveTenant(cmd, args[0], in, ch)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.To, "to", "", "the shard to move to")
	f.DurationVar(&pause, "max-pause", 500*time.Millisecond, "longest pause that a client may see")
	f.StringVar(&in.DDL, "ddl", "refuse", "changes of the tenant's schema meanwhile: refuse, or wait until shortly before the cutover")
	f.Var(sizeFlag{&in.MaxBytesPerS}, "max-rate", "copy no more than this a second over the wire, like 50MB; 0: as much as the servers bear")
	paceFlag(cmd, &in.Pace)
	f.DurationVar(&soak, "soak", 0, "keep the source in step for so long after the move, so that the tenant can be taken back; 0: not at all")
	f.StringVar(&in.Cutover, "cutover", api.CutoverAuto, "when to cut over: auto (as soon as it can), manual, or a time like 2026-11-24T03:00:00Z")
	f.BoolVar(&in.DryRun, "dry-run", false, "say what would be done, and change nothing")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	mustGive(cmd, "to")
	completeFlag(cmd, "to", completeShards)
	cmd.AddCommand(moveReverseCommand(), moveCompleteCommand(), moveSoaksCommand())
	return cmd
}

func moveTenant(cmd *cobra.Command, id string, in api.MoveTenant, ch change) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	op, err := c.MoveTenant(cmd.Context(), id, in, ch.Change)
	if err != nil {
		return err
	}
	return watchOrLeave(cmd, c, op, ch, fmt.Sprintf("moving %s to %s", id, in.To), afterMove(id, op.ID, in.SoakSeconds)...)
}

func planMove(cmd *cobra.Command, id string, in api.MoveTenant) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	plan, err := c.PlanMove(cmd.Context(), id, in)
	if err != nil {
		return err
	}
	return printPlan(cmd, plan, "tenant move "+id+" --to "+in.To)
}
